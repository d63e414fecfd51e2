"use strict";
// The page of `cir view`: window.CIR_VIEW is in data.js beside it. Text goes into the page through
// textContent alone, so that no caption is read as markup.
(() => {
  const view = window.CIR_VIEW;
  const PER_PAGE = 20;
  const SOLVED = 10;
  const FIELDS = ["words", "category", "attribute", "slice", "first", "second", "outcome", "order"];
  const at = (id) => document.getElementById(id);
  const lost = new Set(view.lost);
  let chosen = [];
  let page = 0;
  let current = -1;

  function make(tag, options = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "text") node.textContent = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  function counted(names) {
    const counts = new Map();
    for (const each of names) for (const name of each) counts.set(name, (counts.get(name) || 0) + 1);
    return [...counts].sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
  }

  function fill(id, pairs) {
    at(id).replaceChildren(...pairs.map(([value, text]) => make("option", { value, text })));
  }

  function fillAll() {
    const all = (names) => [["", "all"], ...counted(names).map(([n, c]) => [n, `${n} (${c})`])];
    fill("category", all(view.queries.map((q) => [q.category || q.split])));
    fill("attribute", all(view.queries.map((q) => q.changed)));
    fill("slice", all(view.queries.map((q) => q.slices.map((number) => view.slices[number]))));
    const runs = view.runs.map((name, number) => [String(number), name]);
    fill("first", runs);
    fill("second", runs);
    if (runs.length > 1) at("second").value = "1";
    // What form.reset() goes back to.
    for (const option of at("second").options) option.defaultSelected = option.selected;
    fill("outcome", [
      ["", "any"],
      ["solved", `run solves it (first ${SOLVED})`],
      ["failed", "run does not solve it"],
      ["better", "run ranks the target higher"],
      ["worse", "run ranks the target lower"],
      ["won", "run solves it, the other does not"],
      ["lost", "the other solves it, run does not"],
      ["neither", "neither solves it"],
    ]);
    fill("order", [
      ["", "as in the data"],
      ["best", "run's best rank first"],
      ["worst", "run's worst rank first"],
      ["gain", "most places gained by the run"],
      ["loss", "most places lost by the run"],
    ]);
    for (const id of ["attribute", "slice"]) at(id).parentNode.hidden = at(id).options.length < 2;
    at("second").parentNode.hidden = runs.length < 2;
    const few = ["better", "worse", "won", "lost", "neither", "gain", "loss"];
    if (runs.length < 2) for (const value of few) document.querySelector(`option[value=${value}]`).remove();
  }

  // 0 is no rank: the target is not ranked, or not public.
  const place = (query, run) => query.ranks[run] || Infinity;
  const solved = (query, run) => place(query, run) <= SOLVED;
  const OUTCOMES = {
    solved: (q, a) => solved(q, a),
    failed: (q, a) => !solved(q, a),
    better: (q, a, b) => place(q, a) < place(q, b),
    worse: (q, a, b) => place(q, a) > place(q, b),
    won: (q, a, b) => solved(q, a) && !solved(q, b),
    lost: (q, a, b) => !solved(q, a) && solved(q, b),
    neither: (q, a, b) => !solved(q, a) && !solved(q, b),
  };
  // Places count from the target's, so that 1 instead of 3 weighs more than 101 instead of 103.
  const gain = (q, a, b) => {
    const [one, other] = [1 / place(q, a), 1 / place(q, b)];
    return one - other;
  };
  const ORDERS = {
    best: (a) => (x, y) => place(x, a) - place(y, a) || 0,
    worst: (a) => (x, y) => place(y, a) - place(x, a) || 0,
    gain: (a, b) => (x, y) => gain(y, a, b) - gain(x, a, b),
    loss: (a, b) => (x, y) => gain(x, a, b) - gain(y, a, b),
  };

  function choose() {
    const words = at("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [category, attribute, slice] = ["category", "attribute", "slice"].map((id) => at(id).value);
    const number = view.slices.indexOf(slice);
    const [a, b] = [Number(at("first").value), Number(at("second").value)];
    const outcome = OUTCOMES[at("outcome").value];
    chosen = view.queries.filter(
      (q) =>
        (!category || (q.category || q.split) === category) &&
        (!attribute || q.changed.includes(attribute)) &&
        (!slice || q.slices.includes(number)) &&
        (!outcome || outcome(q, a, b)) &&
        words.every((word) => q.search.includes(word)),
    );
    const order = ORDERS[at("order").value];
    if (order) chosen.sort(order(a, b));
  }

  function summarise() {
    const percent = (count) => (chosen.length ? ((100 * count) / chosen.length).toFixed(2) : "-");
    const head = ["run", "R@1", "R@10", "R@50", "median rank"];
    const rows = view.runs.map((name, run) => {
      const ranks = chosen.map((q) => place(q, run)).sort((x, y) => x - y);
      const within = (k) => percent(ranks.filter((rank) => rank <= k).length);
      const middle = ranks.length ? ranks[Math.floor((ranks.length - 1) / 2)] : Infinity;
      return [name, within(1), within(10), within(50), middle === Infinity ? "-" : String(middle)];
    });
    const line = (tag, cells) => make("tr", {}, ...cells.map((text, i) => make(i ? tag : "th", { text })));
    at("summary").replaceChildren(
      make("thead", {}, line("th", head)),
      make("tbody", {}, ...rows.map((cells) => line("td", cells))),
    );
  }

  function picture(number, query, options = {}) {
    const name = number < 0 ? "none" : view.images[number];
    const cell = make(options.tag || "div", { class: "cell" });
    if (number < 0 || lost.has(number)) cell.append(make("span", { class: "lost", text: name }));
    else
      cell.append(
        make("img", {
          src: `pictures/${number}.jpg`,
          alt: name,
          title: name,
          loading: "lazy",
          width: "72",
          height: "72",
        }),
      );
    const mark = (text, kind, title) => cell.append(make("span", { class: `mark ${kind}`, text, title }));
    if (query && query.positives.includes(number)) {
      cell.classList.add("positive");
      mark("✓", "", "positive");
    } else if (query && number === query.reference) {
      cell.classList.add("ref");
      mark("R", "", "the reference");
    }
    if (query && number === query.target) mark("★", "star", "the target");
    if (options.kind) cell.classList.add(options.kind);
    return cell;
  }

  function ranking(query, run) {
    const rank = query.ranks[run];
    const found = solved(query, run) ? "rank found" : "rank";
    const text = rank ? `rank ${rank}` : "no rank";
    return make(
      "div",
      { class: "ranking" },
      make("div", { class: "label", text: view.runs[run] }, make("span", { class: found, text })),
      make(
        "ol",
        { class: "strip" },
        ...query.top[run].map((number) => picture(number, query, { tag: "li" })),
      ),
    );
  }

  function card(query, place) {
    const label = (text) => make("span", { class: "caption", text });
    const names = [query.category || query.split, ...query.changed];
    // What a text has not is a slice to choose, and says nothing on a card.
    names.push(...query.slices.map((n) => view.slices[n]).filter((name) => !name.includes(": no ")));
    const article = make("article", { class: "query", tabindex: "0", "data-place": place });
    const words = make("div", { class: "text" }, make("div", { class: "words", text: query.text }));
    if (query.captions.length > 1) {
      const captions = query.captions.map((each) => `“${each}”`).join(" ");
      words.append(make("div", { class: "soft", text: captions }));
    }
    words.append(make("div", { class: "soft", text: `${query.id} of ${query.split}` }));
    const tags = names.map((text) => make("li", { text }));
    words.append(make("ul", { class: "tags" }, ...tags));
    article.append(
      make(
        "div",
        { class: "request" },
        make("div", {}, picture(query.reference, null, { kind: "ref" }), label("reference")),
        words,
        make("div", {}, picture(query.target, null, { kind: "positive" }), label("target")),
      ),
      ...view.runs.map((_, run) => ranking(query, run)),
    );
    return article;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(chosen.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const first = page * PER_PAGE;
    const some = chosen.slice(first, first + PER_PAGE);
    at("queries").replaceChildren(...some.map((query, number) => card(query, number)));
    if (!some.length) at("queries").append(make("p", { text: "No query is like this." }));
    for (const nav of document.querySelectorAll("nav.pages")) {
      const button = (text, step, off) => {
        const node = make("button", { type: "button", text });
        node.disabled = off;
        node.addEventListener("click", () => turn(step));
        return node;
      };
      const total = view.queries.length.toLocaleString("en");
      const text = `${chosen.length.toLocaleString("en")} of ${total} queries, page ${page + 1} of ${pages}`;
      nav.replaceChildren(
        button("Previous", -1, page === 0),
        button("Next", 1, page === pages - 1),
        make("span", { class: "grow soft", text, ...(nav.previousElementSibling.id === "queries" ? {} : { "aria-live": "polite" }) }),
      );
    }
    current = -1;
    remember();
  }

  function turn(step) {
    page += step;
    show();
    at("queries").scrollIntoView();
  }

  function update() {
    page = 0;
    choose();
    summarise();
    show();
  }

  function step(by) {
    const cards = document.querySelectorAll("article.query");
    if (!cards.length) return;
    const next = current + by;
    if (next >= cards.length && (page + 1) * PER_PAGE < chosen.length) {
      turn(1);
      return step(1);
    }
    current = Math.min(Math.max(next, 0), cards.length - 1);
    cards[current].focus({ preventScroll: true });
    cards[current].scrollIntoView({ block: "start" });
  }

  function remember() {
    const state = new URLSearchParams();
    for (const id of FIELDS) if (at(id).value) state.set(id, at(id).value);
    if (page) state.set("page", String(page + 1));
    history.replaceState(null, "", `#${state}`);
  }

  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const id of FIELDS) {
      const value = state.get(id);
      const options = at(id).options;
      if (value !== null && (!options || [...options].some((each) => each.value === value))) at(id).value = value;
    }
    choose();
    summarise();
    page = (Number.parseInt(state.get("page"), 10) || 1) - 1;
    show();
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select");
    if (event.key === "Escape" && typing) {
      event.preventDefault(); // a browser would empty the field, and not say so
      return event.target.blur();
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const pages = Math.ceil(chosen.length / PER_PAGE);
    const actions = {
      j: () => step(1),
      k: () => step(-1),
      n: () => page + 1 < pages && turn(1),
      p: () => page > 0 && turn(-1),
      "/": () => at("words").focus(),
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  });
  document.addEventListener("focusin", (event) => {
    const article = event.target.closest("article.query");
    for (const each of document.querySelectorAll(".query.current")) each.classList.remove("current");
    if (article) {
      article.classList.add("current");
      current = Number(article.dataset.place);
    }
  });

  for (const q of view.queries) q.search = [q.text, ...q.captions, q.id].join(" ").toLowerCase();
  at("about").textContent =
    `${view.dataset}, protocol ${view.protocol}, ${view.queries.length.toLocaleString("en")} queries, data ${view.data}. ` +
    ["The first ten images of each ranking, best first", ...view.notes].join(". ") + ".";
  fillAll();
  at("bar").addEventListener("input", update);
  at("bar").addEventListener("submit", (event) => event.preventDefault());
  // The fields have their new values only after the event.
  at("bar").addEventListener("reset", () => setTimeout(update));
  recall();
  window.addEventListener("hashchange", recall);
})();
