// The filters of the search page: fields from the metadata, and a condition of one's own. They are
// texts of the filter language in the end. Loaded before page.js, whose names it uses.

"use strict";

function quoted(text) {
  return `'${text.replace(/\\/g, "\\\\").replace(/'/g, "\\'")}'`;
}

function nameOf(field) {
  const isWord = /^[\p{L}_][\p{L}\p{N}_]*$/u.test(field) && !/^(and|or|not|in|true|false)$/i.test(field);
  return isWord ? field : `\`${field}\``;
}

function filterText(step) {
  const parts = [];
  for (const field of index.fields) {
    const values = step.filters[field.name];
    if (!values || !values.length) continue;
    const name = nameOf(field.name);
    if (field.kind === "number") {
      const [low, high] = values[0].split("..");
      if (low) parts.push(`${name} >= ${Number(low)}`);
      if (high) parts.push(`${name} <= ${Number(high)}`);
    } else if (field.kind === "flag") {
      parts.push(`${name} == ${values[0]}`);
    } else if (values.length === 1) {
      parts.push(`${name} == ${quoted(values[0])}`);
    } else {
      parts.push(`${name} in [${values.map(quoted).join(", ")}]`);
    }
  }
  if (step.expression) parts.push(parts.length ? `(${step.expression})` : step.expression);
  return parts.join(" and ");
}

function makeFilters() {
  for (const field of index.fields) {
    const holder = $("fields");
    if (field.kind === "number") holder.append(rangeOf(field));
    else if (field.kind === "flag") holder.append(choiceOf(field, [["true", "yes"], ["false", "no"]]));
    else if (!field.values.length) holder.append(wordOf(field));
    else holder.append(boxesOf(field));
  }
  $("filters").hidden = !index.fields.length;
  $("expression").placeholder = exampleFilter();
}

// A condition that this index understands.
function exampleFilter() {
  const number = index.fields.find((each) => each.kind === "number" && each.high !== null);
  const word = index.fields.find((each) => each.kind === "text" && each.values.length);
  const parts = [];
  if (number) parts.push(`${nameOf(number.name)} < ${number.high}`);
  if (word) parts.push(`${nameOf(word.name)} == ${quoted(String(word.values[0]))}`);
  return parts.join(" and ");
}

function rangeOf(field) {
  const make = (word, bound) =>
    element("input", { type: "number", step: "any", placeholder: bound === null ? "" : String(bound), "aria-label": `${field.name}, ${word}`, "data-field": field.name, "data-part": word });
  const row = element("div", { className: "range" }, make("at least", field.low), element("span", { textContent: "to" }), make("at most", field.high));
  return element("fieldset", {}, element("legend", { textContent: field.name }), row);
}

function choiceOf(field, options) {
  const select = element("select", { "data-field": field.name, "aria-label": field.name }, element("option", { value: "", textContent: "any" }));
  for (const [value, text] of options) select.append(element("option", { value, textContent: text }));
  return element("fieldset", {}, element("legend", { textContent: field.name }), select);
}

function wordOf(field) {
  const input = element("input", { type: "text", autocomplete: "off", "data-field": field.name, "aria-label": `${field.name}, exactly` });
  return element("fieldset", {}, element("legend", { textContent: field.name }), input);
}

function boxesOf(field) {
  const boxes = field.values.map((value) =>
    element("label", {}, element("input", { type: "checkbox", value: String(value), "data-field": field.name }), element("span", { textContent: String(value) || "(empty)" })));
  return element("fieldset", {}, element("legend", { textContent: field.name }), element("div", { className: "options" }, ...boxes));
}

function filterInputs() {
  return [...$("fields").querySelectorAll("[data-field]")];
}

function readFilters() {
  const filters = {};
  for (const input of filterInputs()) {
    const name = input.dataset.field;
    if (input.type === "checkbox") {
      if (input.checked) (filters[name] ||= []).push(input.value);
    } else if (input.type === "number") {
      const bounds = filters[name] ? filters[name][0].split("..") : ["", ""];
      bounds[input.dataset.part === "at least" ? 0 : 1] = input.value;
      if (bounds[0] || bounds[1]) filters[name] = [bounds.join("..")];
    } else if (input.value) filters[name] = [input.value];
  }
  return filters;
}

function filterCount(step) {
  return Object.keys(step.filters).length + (step.expression ? 1 : 0);
}

function showFilters(step) {
  for (const input of filterInputs()) {
    const values = step.filters[input.dataset.field] || [];
    if (input.type === "checkbox") input.checked = values.includes(input.value);
    else if (input.type === "number") input.value = (values[0] || "..").split("..")[input.dataset.part === "at least" ? 0 : 1] || "";
    else input.value = values[0] || "";
  }
  $("expression").value = step.expression;
  const count = filterCount(step);
  $("filter-count").textContent = count ? `(${count} set)` : "";
}
