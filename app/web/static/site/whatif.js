// What if: one record is kept, another is made from it; shows what changed and what it did to the output.

import { element, figure, label, percent, signing } from "./answer.js";

const shown = (value) => {
  const text = value === null ? "missing" : label(value);
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
};

export class WhatIf {
  constructor(section, button) {
    this.section = section;
    this.button = button;
    this.kept = this.latest = null;
    button.addEventListener("click", () => {
      this.kept = this.kept ? null : this.latest;
      this.show();
    });
  }

  answered(record, answer) {
    this.latest = { record: structuredClone(record), answer };
    this.button.hidden = false;
    this.show();
  }

  show() {
    this.button.textContent = this.kept ? "Stop comparing" : "What if …";
    this.section.hidden = !this.kept;
    if (!this.kept) return;
    const changed = Object.keys(this.latest.record)
      .filter((name) => JSON.stringify(this.latest.record[name]) !== JSON.stringify(this.kept.record[name]));
    this.section.replaceChildren(element("h2", {}, "What if"), ...(changed.length ? this.comparison(changed) :
      [element("p", {}, "This record is kept. Change a value to see what it does.")]));
  }

  comparison(changed) {
    const effects = this.effects(changed);
    const rows = changed.map((name) => [name, shown(this.kept.record[name]), shown(this.latest.record[name]), effects?.[name]]);
    if (effects && Math.abs(effects.others) > 1e-9) rows.push(["other inputs", "", "", effects.others]);
    const signed = signing(effects ? Object.values(effects) : [], this.measure(this.kept).output);
    const heads = ["input", "was", "is", ...(effects ? ["adds"] : [])];
    return [
      element("p", {}, this.summary()),
      element("table", {},
        element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
        element("tbody", {}, ...rows.map(([name, was, is, adds]) => element("tr", {},
          element("th", { scope: "row", title: name }, name), element("td", {}, was), element("td", {}, is),
          ...(effects ? [element("td", { class: "signed" }, signed(adds))] : []))))),
    ];
  }

  // The value that is compared: a number, the score, or the probability of the class that was predicted first.
  measure({ answer }) {
    const first = this.kept.answer;
    const at = (first.classes ?? []).indexOf(first.prediction[0]);
    const found = answer.explanation?.[0];
    if (found) {
      const of = (value) => (Array.isArray(value) ? value[Math.max(0, at)] : value);
      const contributions = Object.fromEntries(Object.entries(found.contributions).map(([name, value]) => [name, of(value)]));
      const value = Object.values(contributions).reduce((total, each) => total + each, of(found.base));
      return { value, contributions, output: found.output };
    }
    if (at >= 0 && answer.probabilities) return { value: answer.probabilities[0][at], output: "probabilities" };
    return { value: answer.prediction[0], output: "prediction" };
  }

  effects(changed) {
    const [was, is] = [this.measure(this.kept), this.measure(this.latest)];
    if (!was.contributions || !is.contributions) return null;
    const effects = { others: 0 };
    for (const name of Object.keys(is.contributions)) {
      const difference = is.contributions[name] - was.contributions[name];
      if (changed.includes(name)) effects[name] = difference;
      else effects.others += difference;
    }
    return effects;
  }

  summary() {
    const [was, is] = [this.measure(this.kept), this.measure(this.latest)];
    const [before, now] = [label(this.kept.answer.prediction[0]), label(this.latest.answer.prediction[0])];
    const write = (value) => (typeof value !== "number" ? label(value) : was.output === "probabilities" ? percent(value) : figure(value));
    if (was.output === "prediction" && before === now) return `The prediction stays ${now}.`;
    if (was.output === "prediction") return `The prediction goes from ${before} to ${now}.`;
    const measure = was.output === "probabilities" ? "probability" : "score";
    const verdict = before === now ? `The prediction stays ${now}` : `The prediction goes from ${before} to ${now}`;
    const { classes } = this.kept.answer;
    const whose = was.output === "decision_scores" && classes.length === 2 ? label(classes[1]) : before;
    return `${verdict}; the ${measure} of ${whose} from ${write(was.value)} to ${write(is.value)}.`;
  }
}
