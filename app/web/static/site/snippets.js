// One request as code in five languages, as short as each language writes it.

const quoted = (word) => (/[^\w@%+=:,./-]/.test(word) ? `'${word.replaceAll("'", `'"'"'`)}'` : word);

// JSON with a space after each comma, without characters that cannot be seen.
function json(value) {
  if (Array.isArray(value)) return `[${value.map(json).join(", ")}]`;
  if (value !== null && typeof value === "object")
    return `{${Object.entries(value).map(([name, each]) => `${json(name)}: ${json(each)}`).join(", ")}}`;
  return JSON.stringify(value).replace(/[\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/g,
    (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// A literal of a language: an object has a line for each member where it has several.
function literal(value, margin, language) {
  const { open, close, list, pair, scalar } = language;
  if (Array.isArray(value)) return `${list[0]}${value.map((each) => literal(each, margin, language)).join(", ")}${list[1]}`;
  if (value === null || typeof value !== "object") return scalar(value);
  const inner = `${margin}${language.indent}`;
  const members = Object.entries(value).map(([name, each]) => pair(name, literal(each, inner, language)));
  const whole = `${open}${members.join(", ")}${close}`;
  if (members.length <= 2 && whole.length < 60) return whole;
  return `${open}\n${inner}${members.join(`,\n${inner}`)}${language.last}\n${margin}${close}`;
}

const words = { true: "True", false: "False", null: "None" };
const pythonic = {
  indent: "    ", last: ",",
  open: "{", close: "}", list: ["[", "]"],
  pair: (name, value) => `${json(name)}: ${value}`,
  scalar: (value) => words[String(typeof value === "string" ? "" : value)] ?? json(value),
};
const scripted = { ...pythonic, indent: "  ", scalar: json };
const inR = {
  indent: "  ", last: "", // R ends no list with a comma
  open: "list(", close: ")", list: ["list(", ")"],
  pair: (name, value) => `${/^[A-Za-z][A-Za-z0-9._]*$/.test(name) ? name : `\`${name.replaceAll("\\", "\\\\").replaceAll("`", "\\`")}\``} = ${value}`,
  scalar: (value) => (value === null ? "NULL" : typeof value === "boolean" ? String(value).toUpperCase() : json(value)),
};

function python(url, record) {
  return `import requests

answer = requests.post(
    ${json(url)},
    json=${literal(record, "    ", pythonic)},
    timeout=10,
)
answer.raise_for_status()
print(answer.json()["prediction"][0])`;
}

function javascript(url, record) {
  return `const answer = await fetch(${json(url)}, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(${literal(record, "  ", scripted)}),
});
if (!answer.ok) throw new Error((await answer.json()).detail);
const { prediction } = await answer.json();
console.log(prediction[0]);`;
}

function typescript(url, record, type) {
  return `interface Answer {
  prediction: ${type}[];
  probabilities?: number[][];
  classes?: ${type}[];
  model: string;
  version: number;
}

const answer = await fetch(${json(url)}, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(${literal(record, "  ", scripted)}),
});
if (!answer.ok) throw new Error((await answer.json()).detail);
const { prediction } = (await answer.json()) as Answer;
console.log(prediction[0]);`;
}

function r(url, record) {
  return `library(httr2)

answer <- request(${json(url)}) |>
  req_body_json(${literal(record, "  ", inR)}) |>
  req_perform() |>
  resp_body_json()
answer$prediction[[1]]`;
}

export const LANGUAGES = ["curl", "Python", "JavaScript", "TypeScript", "R"];

export function snippet(language, url, record, prediction) {
  const type = ["string", "number", "boolean"].includes(typeof prediction) ? typeof prediction : "unknown";
  switch (language) {
    case "Python": return python(url, record);
    case "JavaScript": return javascript(url, record);
    case "TypeScript": return typescript(url, record, type);
    case "R": return r(url, record);
    default: return `curl ${quoted(url)} -d ${quoted(json(record))}`;
  }
}
