// The playground: answers while a value changes, the state in the URL, the request as code, images, presets, many rows.
// Without it the form is sent to the server, which renders the answer.

import { Form, arrayOf } from "./form.js";
import { showAnswer, showRefusal, showWhy } from "./answer.js";
import { LANGUAGES, snippet } from "./snippets.js";
import { WhatIf } from "./whatif.js";

const TYPING_MS = 150;
const WAIT_MS = 15_000;

const place = document.querySelector("[data-playground]");
const described = JSON.parse(place.dataset.model);
const url = new URL(place.dataset.predict, location.href).href;
const form = new Form(place.querySelector("form"), described, place.dataset);
const panel = place.querySelector("[data-answer]");
const why = place.querySelector("[data-why]");
const whatIf = new WhatIf(place.querySelector("[data-whatif]"), place.querySelector("[data-keep]"));
const peek = place.querySelector("[data-peek]"); // on a phone, where the answer is out of sight
const timing = place.querySelector("[data-timing]");
const presets = [...place.querySelectorAll("[data-preset]")];
// The number of a cluster is a name: what an input adds to it means nothing.
const explains = described.outputs.includes("explanation") && described.task !== "clusterer";
const outputs = described.outputs.filter((name) => name !== "decision_scores");

// --- answers: one request at a time, and each is shown; of the records that came meanwhile only the last is sent

let running = null;
let next = null;
let lastPrediction = described.examples[0]?.prediction;

function milliseconds(number) {
  return number >= 100 ? `${Math.round(number)} ms` : `${Number(number.toPrecision(2))} ms`;
}

function timeSpent(answer, whole) {
  const times = Object.fromEntries([...(answer.headers.get("Server-Timing") ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)]
    .map(([, name, duration]) => [name, Number(duration)]));
  const server = Object.values(times).reduce((sum, each) => sum + each, 0);
  return times.run === undefined
    ? `${milliseconds(whole)} in all`
    : `${milliseconds(times.run)} in the model · ${milliseconds(server)} in the server · ${milliseconds(whole)} in all`;
}

function refused(status, problem, after) {
  const general = form.tell("error", (problem.errors ?? []).map((each) => ({ ...each, pointer: each.pointer ?? "#" })));
  form.tell("warning", []);
  why.hidden = true;
  const says = status === 422 || status === 400 ? "Not accepted" : status === 503 ? "Not available" : "No answer";
  const again = after ? [`Try again in ${after} seconds.`] : [];
  peek.textContent = says;
  showRefusal(panel, says, problem.detail ?? `the server answered with status ${status}`, [...general, ...again]);
}

async function ask(record) {
  const began = performance.now();
  const body = JSON.stringify(explains ? { instances: [record], outputs } : record);
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body,
    signal: AbortSignal.timeout(WAIT_MS),
  });
  const document = await answer.json().catch(() => ({ detail: `the server answered with status ${answer.status}` }));
  timing.textContent = timeSpent(answer, performance.now() - began);
  if (!answer.ok) {
    refused(answer.status, document, answer.headers.get("Retry-After"));
    return;
  }
  form.tell("error", []);
  const general = form.tell("warning", document.warnings ?? []);
  [lastPrediction] = document.prediction ?? [];
  showAnswer(panel, described, document, general);
  showWhy(why, described, document);
  if (document.prediction) whatIf.answered(record, document);
  peek.textContent = panel.querySelector(".headline").textContent;
}

async function send(record) {
  next = record;
  if (running) return running;
  running = (async () => {
    while (next !== null) {
      const sent = next;
      next = null;
      panel.classList.add("old");
      try {
        await ask(sent);
      } catch (error) {
        if (next === null)
          showRefusal(panel, "No answer", error.name === "TimeoutError" ? "The server took too long." : "The server cannot be reached.", []);
      }
    }
    panel.classList.remove("old");
    running = null;
    place.dispatchEvent(new CustomEvent("answered"));
  })();
  return running;
}

// --- the request as code

const code = document.querySelector("[data-code]");
const shown = code.querySelector("code");
shown.removeAttribute("data-url"); // it is written here
let language = "curl";
const tabs = document.createElement("div");
tabs.className = "tabs";
tabs.setAttribute("role", "tablist");
tabs.setAttribute("aria-label", "Language");
shown.closest("pre").id = "request-code";
shown.closest("pre").setAttribute("role", "tabpanel");

function writeCode() {
  shown.textContent = snippet(language, url, form.record, lastPrediction);
}

function chooseLanguage(chosen, focus = false) {
  language = chosen;
  for (const tab of tabs.children) {
    const on = tab.textContent === chosen;
    tab.setAttribute("aria-selected", on);
    tab.tabIndex = on ? 0 : -1;
    if (on) shown.closest("pre").setAttribute("aria-labelledby", tab.id);
    if (on && focus) tab.focus();
  }
  writeCode();
}

LANGUAGES.forEach((each, at) => {
  const tab = document.createElement("button");
  Object.assign(tab, { type: "button", textContent: each, id: `language-${at}` });
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", "request-code");
  tab.addEventListener("click", () => chooseLanguage(each));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    chooseLanguage(LANGUAGES[(at + step + LANGUAGES.length) % LANGUAGES.length], true);
  });
  tabs.append(tab);
});
code.querySelector(".languages").append(tabs);

// --- changes

let typing = 0;
let writing = 0;

function here(query) {
  const text = String(query);
  return `${location.pathname.replace(/\/try$/, "")}${text ? `?${text}` : ""}${location.hash === "#answer" ? "" : location.hash}`;
}

function markPreset() {
  const only = form.isExample;
  for (const preset of presets) {
    if (only && Number(preset.dataset.preset) === form.chosen) preset.setAttribute("aria-current", "true");
    else preset.removeAttribute("aria-current");
  }
}

function changed(delay = 0) {
  clearTimeout(typing);
  if (delay) typing = setTimeout(() => send(form.record), delay);
  else send(form.record);
  clearTimeout(writing);
  // Browsers allow about a hundred changes of the address in half a minute.
  writing = setTimeout(() => {
    history.replaceState(null, "", here(form.query));
    markPreset();
    writeCode();
  }, 300);
}

for (const field of form.fields) {
  if (field.slider) {
    field.slider.addEventListener("input", () => {
      field.main.value = field.slider.value;
      field.slider.classList.remove("none");
      changed();
    });
    field.follow();
  }
  field.element.querySelector(".clear")?.addEventListener("click", () => {
    field.text = "";
    changed();
  });
  field.element.addEventListener("input", (event) => {
    if (event.target === field.slider) return;
    if (field.absent && event.target === field.main) field.absent.checked = false;
    field.follow();
    changed(event.target.matches("input[type=radio], input[type=checkbox], select") ? 0 : TYPING_MS);
  });
}

form.element.addEventListener("submit", (event) => {
  event.preventDefault();
  changed();
});
for (const preset of presets) {
  preset.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    clearTimeout(writing);
    history.replaceState(null, "", here(form.query));
    form.choose(Number(preset.dataset.preset));
    history.pushState(null, "", here(form.query));
    markPreset();
    writeCode();
    send(form.record);
  });
}
window.addEventListener("popstate", () => {
  form.restore(new URLSearchParams(location.search));
  markPreset();
  writeCode();
  send(form.record);
});

// A row of a table pasted into a number fills the fields from there on.
form.element.addEventListener("paste", (event) => {
  const at = form.fields.findIndex((field) => field.main === event.target && field.control === "number");
  const text = event.clipboardData.getData("text");
  const cells = arrayOf(text);
  const values = Array.isArray(cells) ? cells.flat(2) : text.trim().split(/[\s,;]+/);
  if (at < 0 || values.length < 2) return;
  event.preventDefault();
  values.slice(0, form.fields.length - at).forEach((value, step) => form.fields[at + step].fill(value));
  changed();
});

// Most models take no image, and their pages do not wait for this module.
if (form.fields.some((field) => field.control === "image")) {
  const { imageEditors } = await import("./images.js");
  imageEditors(form, changed);
}

// --- at the start

// Whether a field was changed while this script was loading.
function wasChanged(control) {
  if (!control.name || control.type === "hidden") return false;
  if (control.options) return [...control.options].some((option) => option.defaultSelected && !option.selected);
  if (["radio", "checkbox"].includes(control.type)) return control.checked !== control.defaultChecked;
  return control.value !== control.defaultValue;
}

const query = new URLSearchParams(location.search);
const tried = location.pathname.endsWith("/try");
const early = !tried && [...form.element.elements].some(wasChanged);
if (!tried && !early && query.size) form.restore(query);
chooseLanguage(language);
markPreset();
place.querySelector(".live").hidden = false;
// A model with steps may call other services: it is asked when somebody wants that.
if (early) changed();
else if (!("steps" in place.dataset) && !("refused" in place.dataset)) send(form.record);

const bulk = document.querySelector("[data-bulk]");
bulk.hidden = false;
const load = () => import("./bulk.js").then(({ manyRows }) => manyRows(bulk, url, described));
const input = bulk.querySelector("input");
let ready = null;
async function rows(file) {
  ready ??= load();
  (await ready)(file);
}
input.addEventListener("change", () => { if (input.files[0]) rows(input.files[0]); input.value = ""; });
const drop = bulk.querySelector(".drop");
for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) rows(event.dataTransfer.files[0]);
});
