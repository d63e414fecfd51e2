// The page of the search service. A step is one search: a picture, a text, filters. Steps make a
// trail, and each is an entry of the browser's history, so that Back and the trail are one thing.
// Uploaded pictures live in this page's memory alone. Everything that comes from the index is
// written as text, never as HTML.
"use strict";

const PAGE = 24;
const $ = (id) => document.getElementById(id);
const uploads = new Map(); // key of an uploaded picture -> {file, url}
const answers = new Map(); // step as text -> hits, so that going back needs no search
let index = null; // what the service says of its index
let picture = null; // {reference: id} or {upload: key, name}
let weighed = false; // whether the weight is the user's, not the method's own
let trail = [];
let at = -1;
let running = null;

// Elements ------------------------------------------------------------------------------------

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function pictureUrl(id, side) {
  return `/api/pictures/${encodeURIComponent(id)}${side ? `?side=${side}` : ""}`;
}

function imageOf(source, side, alt = "") {
  const url = source.upload ? uploads.get(source.upload)?.url : pictureUrl(source.reference, side);
  return url ? element("img", { src: url, alt, loading: "lazy", decoding: "async" }) : null;
}

// Asking the service --------------------------------------------------------------------------

class Failure extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The service does not answer. Is it still running?");
  }
  const content = await response.json().catch(() => ({}));
  if (response.status === 401 && path !== "/api/session") {
    await enter();
    return ask(path, options);
  }
  if (!response.ok) throw new Failure(content.error || `The service answered ${response.status}.`, response.status);
  return content;
}

function enter() {
  const gate = $("gate");
  if (!gate.open) gate.showModal();
  return new Promise((done) => gate.addEventListener("close", done, { once: true }));
}

$("gate").addEventListener("cancel", (event) => event.preventDefault());
$("gate-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("gate-error").textContent = "";
  try {
    await ask("/api/session", { method: "POST", body: $("token").value });
    $("token").value = "";
    $("gate").close();
  } catch (error) {
    $("gate-error").textContent = error.status === 401 ? "That is not the token." : error.message;
    $("token").select();
  }
});

// Steps, as addresses and as requests ---------------------------------------------------------

function stepOfForm(k = PAGE) {
  const step = { text: $("text").value.trim(), filters: readFilters(), expression: $("expression").value.trim(), k };
  if (picture) Object.assign(step, picture);
  if (index.weight && picture && step.text && weighed) step.weight = Number($("weight").value);
  return step;
}

function isEmpty(step) {
  return !step.text && !step.reference && !step.upload && !step.lost;
}

function addressOf(step) {
  const query = new URLSearchParams();
  if (step.reference) query.set("reference", step.reference);
  if (step.upload || step.lost) query.set("picture", step.name || "uploaded");
  if (step.text) query.set("text", step.text);
  if (step.weight !== undefined) query.set("weight", step.weight);
  for (const [name, values] of Object.entries(step.filters)) {
    for (const value of values) query.append(`filter.${name}`, value);
  }
  if (step.expression) query.set("filter", step.expression);
  if (step.k !== PAGE) query.set("k", step.k);
  const text = query.toString();
  return text ? `/?${text}` : "/";
}

function stepOfAddress() {
  const query = new URLSearchParams(location.search);
  const filters = {};
  for (const [key, value] of query) {
    if (key.startsWith("filter.")) (filters[key.slice(7)] ||= []).push(value);
  }
  const step = { text: query.get("text") || "", filters, expression: query.get("filter") || "", k: Number(query.get("k")) || PAGE };
  if (query.get("reference")) step.reference = query.get("reference");
  else if (query.get("picture")) Object.assign(step, { lost: true, name: query.get("picture") });
  if (query.get("weight") && index.weight) step.weight = Number(query.get("weight"));
  return step;
}

function requestOf(step) {
  const form = new FormData();
  if (step.upload) form.append("image", uploads.get(step.upload).file);
  if (step.reference) {
    form.append("reference", step.reference);
    form.append("exclude", step.reference);
  }
  if (step.text) form.append("text", step.text);
  if (step.weight !== undefined) form.append("weight", step.weight);
  const filter = filterText(step);
  if (filter) form.append("filter", filter);
  form.append("k", step.k);
  return form;
}

function titleOf(step) {
  const source = step.reference || step.name || "";
  if (!source) return step.text ? `“${step.text}”` : "Start";
  return step.text ? `${source} + “${step.text}”` : `Like ${source}`;
}

// What the form shows -------------------------------------------------------------------------

function setPicture(source) {
  picture = source;
  const image = $("preview");
  const shown = source && imageOf(source, 320);
  image.hidden = !shown;
  if (shown) image.src = shown.src;
  else image.removeAttribute("src");
  image.onerror = () => { // an upload that is no picture: the search says so
    image.hidden = true;
    $("choose").classList.remove("filled");
  };
  const name = source ? source.reference || source.name : "";
  $("choose").classList.toggle("filled", Boolean(shown));
  $("chosen").firstElementChild.textContent = name || "Choose a picture";
  $("file-hint").hidden = Boolean(shown);
  $("remove").hidden = !source;
  $("text-label").textContent = source ? "What to change" : "What to look for";
  $("text").placeholder = source ? "the same in black" : "a red dress with long sleeves";
  $("weighing").hidden = !(index.weight && source);
}

function accept(file) {
  if (!file.type.startsWith("image/")) return fail(new Failure(`${file.name} is no picture.`));
  if (file.size > index.limits.upload_bytes) {
    return fail(new Failure(`${file.name} is too large: up to ${Math.floor(index.limits.upload_bytes / 2 ** 20)} MiB are accepted.`));
  }
  const key = `${Date.now()}-${uploads.size}`;
  uploads.set(key, { file, url: URL.createObjectURL(file) });
  setPicture({ upload: key, name: file.name || "pasted picture" });
  quiet();
  $("status").textContent = `Picture ${file.name || ""} chosen. Say what to change, or search for similar ones.`;
  $("text").focus();
}

function showWeight() {
  $("weight-value").textContent = weighed ? Number($("weight").value).toFixed(2) : "the method's own";
}

function showTrail() {
  const list = $("trail").querySelector("ol");
  list.replaceChildren(...trail.map((step, number) => {
    const image = step.reference || step.upload ? imageOf(step, 160) : null;
    const blank = element("span", { className: "blank", textContent: step.lost || step.upload ? "?" : "Aa", "aria-hidden": "true" });
    image?.addEventListener("error", () => image.replaceWith(blank));
    const count = filterCount(step);
    const filters = count ? `, ${count} ${count === 1 ? "filter" : "filters"}` : "";
    const title = titleOf(step) + filters;
    const short = image && step.text ? `“${step.text}”${filters}` : title; // the picture stands beside it
    const button = element("button", { type: "button", title, "aria-label": title }, ...(isEmpty(step) ? [] : [image || blank]), element("span", { textContent: short }));
    if (number === at) button.setAttribute("aria-current", "step");
    button.addEventListener("click", () => number !== at && history.go(number - at));
    return element("li", {}, button);
  }));
  $("trail").hidden = trail.length < 2;
  list.scrollLeft = list.scrollWidth;
}

// Messages ------------------------------------------------------------------------------------

function fail(error) {
  $("message").firstElementChild.textContent = error.message;
  $("message").hidden = false;
  $("retry").hidden = at < 0;
  $("message").scrollIntoView({ block: "nearest" });
}

function quiet() {
  $("message").hidden = true;
}

// Hits ----------------------------------------------------------------------------------------

function cardOf(source, rank) {
  const { id, score, path, ...metadata } = source;
  const image = imageOf({ reference: id }, 320);
  const label = score === undefined ? `Start from ${id}` : `Hit ${rank}: ${id}, score ${score.toFixed(3)}. Go on from it`;
  const button = element("button", { type: "button", className: "hit", "aria-label": label, title: "Go on from this one" }, image);
  if (score !== undefined) button.append(element("span", { className: "rank", textContent: String(rank), "aria-hidden": "true" }));
  image.addEventListener("error", () => image.replaceWith(element("span", { className: "lost", textContent: "The picture's file cannot be shown" })));
  button.addEventListener("click", () => goOn(id));
  const link = element("a", { href: pictureUrl(id), target: "_blank", rel: "noopener", textContent: id, title: `${id}: open the picture` });
  const name = element("div", { className: "name" }, link);
  if (score !== undefined) name.append(element("span", { className: "score", textContent: score.toFixed(3), title: `score ${score}` }));
  const about = element("div", { className: "about" }, name);
  const entries = Object.entries(metadata).filter(([, value]) => value !== null && value !== "");
  if (entries.length) {
    about.append(element("dl", {}, ...entries.flatMap(([key, value]) => [element("dt", { textContent: key }), element("dd", { textContent: String(value) })])));
  }
  return element("li", {}, button, about);
}

function showHits(step, hits) {
  $("results").setAttribute("aria-busy", "false");
  $("hits").replaceChildren(...hits.map((hit, number) => cardOf(hit, number + 1)));
  $("results-title").textContent = titleOf(step);
  const filter = filterText(step);
  const where = filter ? ` where ${filter}` : "";
  $("status").textContent = hits.length
    ? `${hits.length} ${hits.length === 1 ? "hit" : "hits"}${where}, best first. Click one to go on from it.`
    : filter ? `No picture fits${where}. Loosen the filters.` : "Nothing was found.";
  $("share").hidden = false;
  $("more").hidden = hits.length < step.k || step.k >= index.limits.k;
}

function showStart() {
  running?.abort();
  $("results").setAttribute("aria-busy", "false");
  $("results-title").textContent = "Start here";
  $("status").textContent = index.examples.length
    ? "Choose a picture of your own, type what you look for, or start from one of these."
    : "The index is empty.";
  $("hits").replaceChildren(...index.examples.map((id) => cardOf({ id })));
  $("share").hidden = $("more").hidden = true;
}

function showWaiting(step) {
  $("results").setAttribute("aria-busy", "true");
  $("results-title").textContent = titleOf(step);
  $("status").textContent = "Searching…";
  $("share").hidden = $("more").hidden = true;
  $("hits").replaceChildren(...Array.from({ length: 8 }, () => element("li", { "aria-hidden": "true" }, element("div", { className: "waiting" }))));
}

// Searching and going back --------------------------------------------------------------------

function goOn(id) {
  setPicture({ reference: id });
  $("text").value = "";
  search();
  $("text").focus({ preventScroll: true });
  scrollTo({ top: 0, behavior: motion() });
}

function motion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
}

// Hits below the window's end, as under open filters, would look like no answer.
function searchInSight() {
  search();
  if ($("hits").getBoundingClientRect().top > innerHeight - 120) $("results").scrollIntoView({ behavior: motion() });
}

function search() {
  const step = stepOfForm();
  if (isEmpty(step)) {
    $("status").textContent = "Choose a picture or type what you look for first.";
    return $("text").focus();
  }
  if (at >= 0 && JSON.stringify(step) === JSON.stringify(trail[at])) return show(step); // again
  trail = [...trail.slice(0, at + 1), step];
  at = trail.length - 1;
  history.pushState({ trail, at }, "", addressOf(step));
  show(step);
}

async function show(step) {
  quiet();
  showForm(step);
  showTrail();
  document.title = isEmpty(step) ? "Picture search" : `${titleOf(step)} · Picture search`;
  if (isEmpty(step)) return showStart();
  if (step.lost || (step.upload && !uploads.has(step.upload))) return showLost(step);
  const key = JSON.stringify(step);
  if (answers.has(key)) return showHits(step, answers.get(key));
  running?.abort();
  const own = (running = new AbortController());
  showWaiting(step);
  try {
    const { hits } = await ask("/api/search", { method: "POST", body: requestOf(step), signal: own.signal });
    answers.set(key, hits);
    if (running === own) showHits(step, hits);
  } catch (error) {
    if (error.name === "AbortError" || running !== own) return;
    $("results").setAttribute("aria-busy", "false");
    $("hits").replaceChildren();
    $("status").textContent = "No hits to show.";
    fail(error);
  }
}

function showForm(step) {
  setPicture(step.reference ? { reference: step.reference } : step.upload && uploads.has(step.upload) ? { upload: step.upload, name: step.name } : null);
  $("text").value = step.text;
  weighed = step.weight !== undefined;
  $("weight").value = step.weight ?? 0.5;
  showWeight();
  showFilters(step);
}

function showLost(step) {
  running?.abort();
  $("results").setAttribute("aria-busy", "false");
  $("results-title").textContent = titleOf(step);
  $("hits").replaceChildren();
  $("share").hidden = $("more").hidden = true;
  $("status").textContent = `This search was made with an uploaded picture (${step.name}), and uploads are not kept. Choose it again, then search.`;
}

function restore(state) {
  if (state?.trail) ({ trail, at } = state);
  else {
    trail = [stepOfAddress()];
    at = 0;
    history.replaceState({ trail, at }, "");
  }
  show(trail[at]);
}

// Events --------------------------------------------------------------------------------------

function listen() {
  addEventListener("popstate", (event) => restore(event.state));
  $("query").addEventListener("submit", (event) => { event.preventDefault(); searchInSight(); });
  $("filter-form").addEventListener("submit", (event) => { event.preventDefault(); searchInSight(); });
  $("clear").addEventListener("click", () => { showFilters({ filters: {}, expression: "" }); if (!isEmpty(stepOfForm())) search(); });
  $("retry").addEventListener("click", () => show(trail[at]));
  $("file").addEventListener("change", () => { if ($("file").files.length) accept($("file").files[0]); $("file").value = ""; });
  $("remove").addEventListener("click", () => { setPicture(null); $("text").focus(); });
  $("weight").addEventListener("input", () => { weighed = true; showWeight(); });
  $("weight").addEventListener("change", () => { if ($("text").value.trim()) search(); });
  $("more").addEventListener("click", more);
  $("share").addEventListener("click", share);
  $("hits").addEventListener("keydown", moveInGrid);
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (file) { event.preventDefault(); accept(file); }
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) { event.preventDefault(); $("text").focus(); }
  });
  dragging();
}

function dragging() {
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (event.dataTransfer.files.length) accept(event.dataTransfer.files[0]);
  });
}

async function more() {
  const shown = $("hits").children.length;
  const step = { ...trail[at], k: Math.min(trail[at].k + PAGE, index.limits.k) };
  trail = [...trail.slice(0, at), step];
  history.replaceState({ trail, at }, "", addressOf(step));
  await show(step);
  $("hits").children[shown]?.querySelector("button").focus();
}

async function share() {
  const step = trail[at];
  const kept = step.upload ? " The uploaded picture is not in it." : "";
  try {
    await navigator.clipboard.writeText(location.href);
    $("status").textContent = `Link copied.${kept}`;
  } catch {
    $("status").textContent = `The link is this page's address.${kept}`;
  }
}

function moveInGrid(event) {
  const buttons = [...$("hits").querySelectorAll(".hit")];
  const here = buttons.indexOf(event.target);
  if (here < 0) return;
  const columns = buttons.filter((each) => each.offsetTop === buttons[0].offsetTop && each.getBoundingClientRect().top === buttons[0].getBoundingClientRect().top).length || 1;
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  const next = buttons[here + moves[event.key]];
  if (next) { event.preventDefault(); next.focus(); }
}

async function start() {
  try {
    index = await ask("/api/index");
  } catch (error) {
    $("status").textContent = "";
    $("results-title").textContent = "The index cannot be reached";
    return fail(error);
  }
  const { pictures, method } = index.summary;
  $("about").textContent = `${pictures.toLocaleString("en")} pictures, method ${method}`;
  $("text").maxLength = index.limits.text;
  makeFilters();
  listen();
  restore(history.state);
}

start();
