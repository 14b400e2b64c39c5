// The form of a record: reads it into the record that is sent, fills it, and shows errors beside their fields. As in
// fields.py, a text that cannot be read is sent as it was typed: the server says better what is wrong with it.

const ABSENT = Symbol("absent");

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// JSON as it is; else the numbers of a table, as lists of the shape where their count is right.
export function arrayOf(text, shape) {
  const value = parsed(text);
  if (typeof value === "object" || !shape) return value;
  let cells = text.trim().split(/[\s,;]+/).filter(Boolean).map(parsed);
  if (cells.length !== shape.reduce((product, width) => product * width, 1)) return cells;
  for (const width of shape.slice(1).reverse()) {
    const rows = [];
    for (let at = 0; at < cells.length; at += width) rows.push(cells.slice(at, at + width));
    cells = rows;
  }
  return cells;
}

function tableOf(value) {
  const rows = Array.isArray(value) && value.length && value.every(Array.isArray) ? value : [value];
  const flat = rows.every((row) => Array.isArray(row) && !row.some(Array.isArray));
  return flat ? rows.map((row) => row.join(", ")).join("\n") : JSON.stringify(value);
}

class Field {
  constructor(element, described) {
    this.element = element;
    this.name = element.dataset.name;
    this.control = element.dataset.control;
    this.kind = element.dataset.kind;
    this.typed = "typed" in element.dataset;
    this.nullable = "nullable" in element.dataset;
    this.shape = described?.shape;
    this.slider = element.querySelector(".slider");
    this.absent = element.querySelector(".absent input");
    this.radios = [...element.querySelectorAll("input[type=radio]")];
    this.main = this.control === "image"
      ? element.querySelector("input[type=hidden]")
      : element.querySelector("input:not([type=range], [type=radio], [type=checkbox]), select, textarea");
    this.messages = { error: element.querySelector(".message.bad"), warning: element.querySelector(".message.wait") };
  }

  get text() {
    if (this.control === "pills") return this.radios.find((radio) => radio.checked)?.value ?? "";
    return this.main.value;
  }

  set text(text) {
    for (const radio of this.radios) radio.checked = radio.value === text;
    if (this.main) this.main.value = text;
    if (this.absent) this.absent.checked = false;
    this.follow();
  }

  get value() {
    const text = this.text;
    if (this.control === "text") return this.absent?.checked ? null : text;
    if (text.trim() === "") return this.nullable ? null : ABSENT;
    if (this.control === "json") return arrayOf(text, this.shape);
    return this.typed || ["number", "integer", "boolean", "unused"].includes(this.kind) ? parsed(text) : text;
  }

  // Fill the field with a value of a record.
  fill(value) {
    if (this.control === "json") this.text = value === undefined ? "" : tableOf(value);
    else if (value === null || value === undefined) this.text = "";
    else if (this.control === "timestamp") this.text = localTime(value);
    else this.text = this.typed || typeof value !== "string" ? JSON.stringify(value) : value;
    if (this.absent) this.absent.checked = value === null;
    this.element.dispatchEvent(new CustomEvent("filled"));
  }

  // Move the slider to the number, and grey it where there is none.
  follow() {
    if (!this.slider) return;
    const number = this.main.value.trim() === "" ? NaN : Number(this.main.value);
    this.slider.classList.toggle("none", Number.isNaN(number));
    if (!Number.isNaN(number)) this.slider.value = number;
  }

  tell(kind, sentence) {
    const place = this.messages[kind];
    if (place.textContent !== sentence) place.textContent = sentence;
    place.hidden = !sentence;
    if (kind !== "error") return;
    this.element.classList.toggle("refused", Boolean(sentence));
    const marked = this.control === "pills" ? this.element.querySelector(".pills") : this.main;
    if (sentence) marked.setAttribute("aria-invalid", "true");
    else marked.removeAttribute("aria-invalid");
  }
}

// A timestamp as a date and time field has it, in UTC and without seconds where they are 0.
const localTime = (value) => wholeTime(value).replace(/(T\d\d:\d\d):00$/, "$1");

function wholeTime(value) {
  const zoned = typeof value === "number" || /(Z|[+-]\d\d:?\d\d)$/i.test(value);
  if (!zoned) return value.length === 10 ? `${value}T00:00:00` : value.replace(" ", "T");
  const moment = new Date(typeof value === "number" ? value * 1000 : value);
  return Number.isNaN(moment.getTime()) ? "" : moment.toISOString().replace(/(\.000)?Z$/, "");
}

export class Form {
  constructor(element, described, { missing, example }) {
    this.element = element;
    this.whole = described.whole;
    this.examples = described.examples;
    this.missingKey = missing;
    this.exampleKey = example;
    this.fields = [...element.querySelectorAll("[data-field]")].map((each, at) => new Field(each, described.inputs[at]));
    this.byName = new Map(this.fields.map((field) => [field.name, field]));
    this.chosen = 0;
    const none = { instance: Object.fromEntries(this.fields.map((field) => [field.name, undefined])) };
    this.none = this.examples.length ? null : none;
    this.start = this.examples.length ? null : this.fields.map((field) => field.main?.defaultValue ?? field.text);
  }

  // The record that is sent.
  get record() {
    if (this.whole) return parsed(this.fields[0].text);
    const record = [];
    for (const field of this.fields) {
      const value = field.value;
      if (value !== ABSENT) record.push([field.name, value]);
    }
    return Object.fromEntries(record);
  }

  // The texts of the chosen example, field by field.
  baseline() {
    if (!this.examples.length) return this.start;
    const instance = this.examples[this.chosen].instance;
    if (this.whole) return [JSON.stringify(instance)];
    return this.fields.map((field) => {
      const value = instance[field.name];
      if (field.control === "json") return tableOf(value);
      if (value === null || value === undefined) return "";
      if (field.control === "timestamp") return localTime(value);
      return field.typed || typeof value !== "string" ? JSON.stringify(value) : value;
    });
  }

  // Whether nothing was changed since the example was chosen.
  get isExample() {
    const baseline = this.baseline();
    return this.fields.every((field, at) => field.text === baseline[at]);
  }

  choose(number) {
    this.chosen = number;
    const { instance } = this.examples[number];
    if (this.whole) this.fields[0].text = JSON.stringify(instance);
    else for (const field of this.fields) field.fill(instance[field.name]);
  }

  // The state as a query: the example that was chosen, and what differs from it.
  get query() {
    const query = new URLSearchParams();
    if (this.chosen) query.set(this.exampleKey, this.chosen + 1);
    const baseline = this.baseline();
    this.fields.forEach((field, at) => {
      if (field.absent?.checked) query.append(this.missingKey, field.name);
      else if (field.text !== baseline[at] && field.text.length <= 2000) query.append(field.name, field.text);
    });
    return query;
  }

  // Fill the form as a query says.
  restore(query) {
    const number = Number(query.get(this.exampleKey) ?? 1);
    if (this.examples.length) this.choose(number >= 1 && number <= this.examples.length ? number - 1 : 0);
    else this.fields.forEach((field, at) => { field.text = this.start[at]; });
    for (const field of this.fields) if (query.has(field.name)) field.text = query.get(field.name);
    for (const name of query.getAll(this.missingKey)) {
      const absent = this.byName.get(name)?.absent;
      if (absent) absent.checked = true;
    }
  }

  // The field to which a pointer leads, or into which: an error may lie deep inside an array.
  at(pointer) {
    const rest = pointer.replace(/^#(\/instances)?(\/0)?\/?/, "");
    if (this.whole) return this.fields[0];
    const steps = rest.split("/").map((step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~"));
    return this.byName.get(steps[0])
      ?? this.byName.get(steps.join("."))
      ?? (steps[0].endsWith("…") ? this.fields.find((field) => field.name.startsWith(steps[0].slice(0, -1))) : undefined);
  }

  // Show sentences beside their fields; returns those that lead to no field.
  tell(kind, found) {
    const placed = new Map();
    const general = [];
    for (const { pointer, detail } of found) {
      const field = this.at(pointer);
      if (field && !placed.has(field)) placed.set(field, detail);
      else if (!field) general.push(`${pointer.replace(/^#(\/instances)?(\/0)?\/?/, "")} ${detail}`.trim());
    }
    for (const field of this.fields) field.tell(kind, placed.get(field) ?? "");
    return general;
  }
}
