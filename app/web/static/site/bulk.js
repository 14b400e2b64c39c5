// Many rows of a file: sent in parts as the file's own type, shown in a table to sort, filter, search and download.
// Rows that the model refuses say why, and do not hold up the others.

import { element, label } from "./answer.js";

const MOST_ROWS = 100_000;
const PART_ROWS = 2_000;
const AT_ONCE = 2;
const ROW_PX = 32;
const BEYOND = 12;
const MOST_COLUMNS = 40;
const PARQUET = "application/vnd.apache.parquet";
const UNREADABLE = "The model has read this file, but this page cannot: it reads columns without compression, with Snappy or with Zstandard. Rows have the order of the file.";

// --- reading

// The records of a CSV (RFC 4180): lists of texts.
export function records(text, separator) {
  const found = [];
  let row = [];
  let at = 0;
  const end = text.length;
  while (at < end) {
    let cell = "";
    if (text[at] === '"') {
      at += 1;
      for (;;) {
        const close = text.indexOf('"', at);
        if (close < 0) throw new Error(`the quote that opens in line ${found.length + 1} is never closed`);
        cell += text.slice(at, close);
        at = close + 1;
        if (text[at] !== '"') break;
        cell += '"';
        at += 1;
      }
    }
    let stop = at;
    while (stop < end && text[stop] !== separator && text[stop] !== "\n") stop += 1;
    cell += text.slice(at, stop).replace(/\r$/, "");
    row.push(cell);
    at = stop + 1;
    if (stop >= end || text[stop] === "\n") {
      if (row.length > 1 || row[0] !== "") found.push(row);
      row = [];
    }
  }
  return found;
}

const cellOf = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
export const csvOf = (rows) => rows.map((row) => row.map(cellOf).join(",")).join("\n") + "\n";

// The names of the columns of a Parquet file, and its rows as lists of texts.
async function parquetRecords(file) {
  const [{ parquetRead }, { parquetMetadata, parquetSchema }, { decompress }] = await Promise.all([
    import("../../hyparquet/1.33.0/read.js"),
    import("../../hyparquet/1.33.0/metadata.js"),
    import("../../fzstd/0.1.1/index.mjs"),
  ]);
  const content = await file.arrayBuffer();
  const metadata = parquetMetadata(content);
  const compressors = { ZSTD: (page, length) => decompress(page, new Uint8Array(length)) };
  const rows = await new Promise((resolve, reject) => {
    parquetRead({ file: content, metadata, compressors, onComplete: resolve }).catch(reject);
  });
  const columns = parquetSchema(metadata).children.map(({ element }) => element);
  return [columns.map(({ name }) => name), rows.map((row) => row.map((value, at) => textOf(value, columns[at].logical_type)))];
}

const writable = (_, value) => (typeof value === "bigint" ? Number(value) : value);

// A value as in a CSV. Times without a time zone stay without one.
function textOf(value, type) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (value instanceof Date) {
    const text = value.toISOString();
    return type?.type === "DATE" ? text.slice(0, 10) : type?.isAdjustedToUTC === false ? text.slice(0, -1) : text;
  }
  return typeof value === "object" ? JSON.stringify(value, writable) : String(value);
}

function separatorOf(text) {
  const line = text.slice(0, Math.max(0, text.indexOf("\n")) || text.length);
  const counts = [",", ";", "\t"].map((each) => [line.split(each).length, each]);
  return counts.sort((one, other) => other[0] - one[0])[0][1];
}

// --- asking

async function post(url, body, type) {
  for (let attempt = 0; ; attempt += 1) {
    const answer = await fetch(url, { method: "POST", headers: { "Content-Type": type, Accept: "application/json" }, body });
    if (![429, 503].includes(answer.status) || attempt === 5) {
      return [answer.status, await answer.json().catch(() => ({ detail: `the server answered with status ${answer.status}` }))];
    }
    await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** attempt));
  }
}

// Predict some rows; a row that is refused is left out, and the rest is asked again.
async function part(url, header, rows, told) {
  let left = rows.map((row, at) => [row, at]);
  while (left.length) {
    const [status, answer] = await post(url, csvOf([header, ...left.map(([row]) => row)]), "text/csv");
    if (status === 200) {
      left.forEach(([, at], number) => told(at, { prediction: answer.prediction[number], probabilities: answer.probabilities?.[number], classes: answer.classes }));
      return;
    }
    const wrong = new Map();
    for (const { pointer, detail } of answer.errors ?? []) {
      const match = /^#(?:\/instances)?\/(\d+)(?:\/(.*))?$/.exec(pointer);
      if (match && !wrong.has(Number(match[1]))) wrong.set(Number(match[1]), `${match[2] ? `${decodeURIComponent(match[2])} ` : ""}${detail}`);
    }
    if (status !== 422 || !wrong.size) throw new Error(answer.errors?.[0] ? `${answer.errors[0].pointer} ${answer.errors[0].detail}` : answer.detail);
    left.forEach(([, at], number) => { if (wrong.has(number)) told(at, { wrong: wrong.get(number) }); });
    left = left.filter((_, number) => !wrong.has(number));
  }
}

// --- the table

class Table {
  constructor(place, name, header, rows, classes, note) {
    this.header = header;
    this.rows = rows; // {cells, prediction, probabilities, wrong}
    this.name = name;
    this.classes = classes;
    this.order = { column: null, down: false };
    this.search = element("input", { type: "search", placeholder: "Search the rows", "aria-label": "Search the rows" });
    this.filter = element("select", { "aria-label": "Show" });
    this.count = element("span", { class: "count", role: "status" });
    const download = element("button", { type: "button", class: "button small" }, "Download CSV");
    download.addEventListener("click", () => this.download());
    this.body = element("tbody");
    this.head = element("tr");
    this.table = element("table", {}, element("thead", {}, this.head), this.body);
    this.sheet = element("div", { class: "sheet", tabindex: "0", role: "region", "aria-label": "Predictions" }, this.table);
    place.replaceChildren(
      element("div", { class: "tools" }, this.search, this.filter, this.count, download),
      ...(note ? [element("p", { class: "quiet" }, note)] : []),
      this.sheet,
    );
    this.search.addEventListener("input", () => this.select());
    this.filter.addEventListener("change", () => this.select());
    this.sheet.addEventListener("scroll", () => this.draw(), { passive: true });
    this.columns();
    this.options();
    this.select();
  }

  // The classes that the probabilities belong to; none for several targets, each of which has classes of its own.
  named() {
    const each = this.rows.some((row) => row.probabilities && !Array.isArray(row.probabilities[0]));
    return this.classes && each ? this.classes : [];
  }

  columns() {
    const cells = this.header.slice(0, MOST_COLUMNS).map((title, at) => [title, (row) => row.cells[at] ?? ""]);
    const chance = (row) => (row.probabilities ? Math.max(...row.probabilities) : undefined);
    this.shown = [
      ["row", (row) => row.number],
      ["prediction", (row) => row.wrong ?? row.prediction],
      ...(this.named().length ? [["probability", chance]] : []),
      ...cells,
    ];
    this.head.replaceChildren(...this.shown.map(([title], at) => {
      const button = element("button", { type: "button" }, title);
      button.addEventListener("click", () => {
        this.order = { column: at, down: this.order.column === at && !this.order.down };
        this.select();
      });
      return element("th", { scope: "col" }, button);
    }));
  }

  options() {
    const options = [["", "All rows"]];
    if (this.rows.some((row) => row.wrong)) options.push(["wrong", "Refused rows"]);
    const labels = [...new Set(this.rows.filter((row) => !row.wrong).map((row) => label(row.prediction)))];
    if (labels.length <= 50) options.push(...labels.sort().map((each) => [`is ${each}`, each]));
    this.filter.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
    this.filter.hidden = options.length < 3;
  }

  select() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const only = this.filter.value;
    let found = this.rows;
    if (only === "wrong") found = found.filter((row) => row.wrong);
    else if (only) found = found.filter((row) => !row.wrong && label(row.prediction) === only.slice(3));
    if (words.length) {
      found = found.filter((row) => {
        const text = `${row.cells.join(" ")} ${row.wrong ?? label(row.prediction)}`.toLowerCase();
        return words.every((word) => text.includes(word));
      });
    }
    const { column, down } = this.order;
    if (column !== null) {
      const [, of] = this.shown[column];
      const keyed = found.map((row) => {
        const value = of(row);
        const number = typeof value === "number" ? value : typeof value === "string" && value.trim() !== "" ? Number(value) : NaN;
        return [Number.isNaN(number) ? label(value ?? "") : number, row];
      });
      const compare = (one, other) => (typeof one === typeof other ? (one < other ? -1 : one > other ? 1 : 0) : typeof one === "number" ? -1 : 1);
      keyed.sort(([one], [other]) => (down ? compare(other, one) : compare(one, other)));
      found = keyed.map(([, row]) => row);
    }
    [...this.head.children].forEach((cell, at) => {
      if (at === column) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      cell.firstChild.textContent = this.shown[at][0] + (at === column ? (down ? " ↓" : " ↑") : "");
    });
    this.found = found;
    const refused = this.rows.filter((row) => row.wrong).length;
    this.count.textContent = `${found.length.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} rows`
      + (refused ? `, ${refused.toLocaleString("en")} refused` : "");
    this.sheet.scrollTop = 0;
    this.drawn = null;
    this.draw();
  }

  // Only the rows in sight are in the document.
  draw() {
    const first = Math.max(0, Math.floor(this.sheet.scrollTop / ROW_PX) - BEYOND);
    const last = Math.min(this.found.length, first + Math.ceil(this.sheet.clientHeight / ROW_PX) + 2 * BEYOND);
    if (this.drawn === `${first} ${last}`) return;
    this.drawn = `${first} ${last}`;
    const gap = (rows) => {
      const cell = element("td", { colspan: this.shown.length });
      cell.style.height = `${rows * ROW_PX}px`;
      return element("tr", { class: "gap", "aria-hidden": "true" }, cell);
    };
    this.body.replaceChildren(
      ...(first ? [gap(first)] : []),
      ...this.found.slice(first, last).map((row) => element("tr", {}, ...this.shown.map(([title, of], at) => {
        const value = of(row);
        const text = title === "probability" && at === 2 && typeof value === "number" ? value.toFixed(3)
          : value === undefined ? "" : typeof value === "string" ? value : label(value);
        return element("td", at === 1 ? { class: row.wrong ? "wrong" : "made", title: text } : {}, text);
      }))),
      ...(last < this.found.length ? [gap(this.found.length - last)] : []),
    );
  }

  download() {
    const many = this.named();
    const text = (value) => (value === undefined || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value));
    const header = [...this.header, "prediction", ...many.map((name) => `probability_${label(name)}`), "error"];
    const lines = this.found.map((row) => [
      ...this.header.map((_, at) => row.cells[at] ?? ""), text(row.prediction), ...many.map((_, at) => text(row.probabilities?.[at])), row.wrong ?? "",
    ]);
    const file = new Blob([csvOf([header, ...lines])], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(file), download: `${this.name}-predictions.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

// --- all together

export function manyRows(section, url, described) {
  const place = section.querySelector("[data-rows]");
  let asked = 0;

  const say = (sentence) => place.replaceChildren(element("p", { class: "message bad", role: "alert" }, sentence));

  async function csv(file, isCurrent) {
    const text = (await file.text()).replace(/^\ufeff/, "");
    const [header, ...lines] = records(text, separatorOf(text));
    return predicted(header, lines, isCurrent);
  }

  async function predicted(header, lines, isCurrent) {
    if (!header || !lines.length) throw new Error("the file has no rows below the line of names");
    if (lines.length > MOST_ROWS) throw new Error(`the file has ${lines.length.toLocaleString("en")} rows; at most 100,000 are predicted here: send it to /jobs`);
    const uneven = lines.findIndex((line) => line.length !== header.length);
    if (uneven >= 0) throw new Error(`row ${uneven + 1} has ${lines[uneven].length} cells, and the line of names has ${header.length}`);
    const names = new Set(described.inputs.map((each) => each.name));
    const sent = header.map((title, at) => [title.trim(), at]).filter(([title]) => described.whole || names.has(title));
    if (!sent.length) throw new Error(`no column has the name of an input: ${[...names].slice(0, 8).join(", ")}${names.size > 8 ? ", …" : ""}`);
    const absent = described.whole ? [] : [...names].filter((name) => !header.some((title) => title.trim() === name));
    if (absent.length) throw new Error(`there is no column for ${absent.slice(0, 8).join(", ")}${absent.length > 8 ? ", …" : ""}`);
    const rows = lines.map((cells, at) => ({ cells, number: at + 1 }));
    const bar = element("progress", { max: rows.length, value: 0, "aria-label": "Rows predicted" });
    const count = element("span", {}, "");
    place.replaceChildren(element("p", { class: "progress" }, bar, count));
    let classes;
    let done = 0;
    const starts = Array.from({ length: Math.ceil(rows.length / PART_ROWS) }, (_, at) => at * PART_ROWS);
    const work = async () => {
      for (let start = starts.shift(); start !== undefined && isCurrent(); start = starts.shift()) {
        const some = rows.slice(start, start + PART_ROWS);
        await part(url, sent.map(([title]) => title), some.map((row) => sent.map(([, at]) => row.cells[at])), (at, found) => {
          classes ??= found.classes;
          Object.assign(some[at], { prediction: found.prediction, probabilities: found.probabilities, wrong: found.wrong });
        });
        done += some.length;
        bar.value = done;
        count.textContent = `${done.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return [header, rows, classes];
  }

  // The model reads the file itself, with its types. A file with other columns than the inputs is sent as a CSV without.
  async function parquet(file, isCurrent) {
    place.replaceChildren(element("p", { class: "progress" }, element("progress", { "aria-label": "Rows predicted" })));
    const [header, records, note] = await parquetRecords(file).catch(() => [[], [], UNREADABLE]);
    const names = new Set(described.inputs.map((each) => each.name));
    if (!described.whole && header.some((name) => !names.has(name))) return predicted(header, records, isCurrent);
    const [status, answer] = await post(url, file, PARQUET);
    if (status !== 200) throw new Error(answer.errors?.[0] ? `${answer.errors[0].pointer} ${answer.errors[0].detail}` : answer.detail);
    const rows = answer.prediction.map((prediction, at) => (
      { cells: records[at] ?? [], number: at + 1, prediction, probabilities: answer.probabilities?.[at] }
    ));
    return [header, rows, answer.classes, note];
  }

  return async (file) => {
    const number = (asked += 1);
    const isCurrent = () => number === asked;
    try {
      const found = await (/\.parquet$/i.test(file.name) ? parquet(file, isCurrent) : csv(file, isCurrent));
      if (isCurrent()) new Table(place, document.querySelector("[data-playground]").dataset.name, ...found);
    } catch (error) {
      if (isCurrent()) say(`${file.name}: ${error.message}`);
    }
  };
}
