// Shows an answer of the prediction API: the label with a bar for each class, or a number among those of the examples.

const MANY_CLASSES = 12;
const LIKELIEST = 8;
const OWN = ["prediction", "probabilities", "classes", "model", "version", "warnings", "warnings_more", "explanation"];
const SVG = "http://www.w3.org/2000/svg";

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const figure = (number) => String(Number(number.toPrecision(6)));

export function label(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : figure(value);
  if (typeof value === "string" && value !== "" && value === value.trim()) return value;
  return Array.isArray(value) ? value.map(label).join(", ") : JSON.stringify(value);
}

export function percent(share) {
  if (share === 0 || share === 1) return `${share * 100} %`;
  const text = (share * 100).toFixed(1);
  return text === "100.0" ? "> 99.9 %" : text === "0.0" ? "< 0.1 %" : `${text} %`;
}

function headline(task, prediction) {
  if (task === "outlier_detector" && Math.abs(prediction) === 1) return prediction === 1 ? "inlier" : "outlier";
  return label(prediction);
}

function bars(answer) {
  const shares = answer.probabilities?.[0];
  if (!answer.classes || !Array.isArray(shares) || shares.length !== answer.classes.length) return null;
  let pairs = answer.classes.map((name, at) => [label(name), shares[at]]).filter(([, share]) => typeof share === "number");
  if (pairs.length > MANY_CLASSES) pairs = pairs.sort((one, other) => other[1] - one[1]).slice(0, LIKELIEST);
  const most = Math.max(...pairs.map(([, share]) => share));
  return element("ul", { class: "bars" }, ...pairs.map(([name, share]) =>
    element("li", share === most ? { class: "first" } : {},
      element("span", { class: "name" }, name),
      element("span", { class: "percent" }, percent(share)),
      drawn("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
        drawn("rect", { class: "track", width: 100, height: 6 }),
        drawn("rect", { class: "fill", width: 100 * share, height: 6 })))));
}

// The number on the histogram of the predictions for the training sample.
function onHistogram(number, { from, to, counts }) {
  const most = Math.max(...counts);
  const place = Math.min(1, Math.max(0, (number - from) / (to - from)));
  const words = `${figure(number)} on the histogram of the predictions for the training sample, ${figure(from)} to ${figure(to)}`;
  const own = Math.min(counts.length - 1, Math.floor(place * counts.length));
  return element("div", { class: "spread", role: "img", "aria-label": words },
    drawn("svg", { viewBox: `0 0 ${counts.length} 10`, preserveAspectRatio: "none", "aria-hidden": "true" },
      ...counts.map((count, at) => {
        const height = count ? Math.max(0.3, (10 * count) / most) : 0;
        return drawn("rect", { class: at === own ? "own" : "", x: at + 0.04, y: 10 - height, width: 0.92, height });
      })),
    drawn("svg", { class: "ends", "aria-hidden": "true" },
      drawn("circle", { class: "now", cx: `${100 * place}%`, cy: 6, r: 5 }),
      drawn("text", { x: "0%", y: 28 }, figure(from)),
      drawn("text", { x: "100%", y: 28, "text-anchor": "end" }, figure(to)),
      drawn("text", { x: "50%", y: 28, "text-anchor": "middle" }, "training sample")));
}

// The number among the predictions of the recorded examples.
function scale(number, past, examples) {
  if (typeof number !== "number" || past.length < 3) return null;
  const least = Math.min(number, ...past);
  const most = Math.max(number, ...past);
  if (!(least < most)) return null;
  const at = (value) => `${2 + (96 * (value - least)) / (most - least)}%`;
  const words = `${figure(number)} among the predictions of the ${examples}, ${figure(least)} to ${figure(most)}`;
  return drawn("svg", { class: "scale", role: "img", "aria-label": words },
    drawn("line", { x1: "2%", x2: "98%", y1: 14, y2: 14 }),
    ...past.map((value) => drawn("circle", { class: "past", cx: at(value), cy: 14, r: 4 })),
    drawn("circle", { class: "now", cx: at(number), cy: 14, r: 8 }),
    drawn("text", { x: "0%", y: 42 }, figure(least)),
    drawn("text", { x: "100%", y: 42, "text-anchor": "end" }, figure(most)),
    drawn("text", { x: "50%", y: 42, "text-anchor": "middle" }, examples));
}

function spread(prediction, { predicted, made_up: madeUp }, past) {
  if (predicted?.counts && typeof prediction === "number") return onHistogram(prediction, predicted);
  return scale(prediction, past, madeUp ? "made-up examples" : "recorded examples");
}

function others(answer) {
  return Object.entries(answer)
    .filter(([name, value]) => !OWN.includes(name) && Array.isArray(value))
    .map(([name, value]) => element("p", { class: "other" },
      element("code", {}, name), " ", element("code", {}, label(value[0]))));
}

export function showAnswer(panel, described, answer, general) {
  const [prediction] = answer.prediction ?? [null];
  const text = headline(described.task, prediction);
  const past = described.examples.map((example) => example.prediction).filter((each) => typeof each === "number");
  panel.replaceChildren(
    element("p", { class: "says" }, described.says),
    element("p", { class: text.length > 14 ? "headline long" : "headline", title: JSON.stringify(prediction) }, text),
    ...[bars(answer), described.task === "regressor" ? spread(prediction, described, past) : null].filter(Boolean),
    ...others(answer),
    ...general.map((sentence) => element("p", { class: "message wait" }, sentence)),
  );
}

export function showRefusal(panel, says, sentence, general) {
  panel.replaceChildren(
    element("p", { class: "says" }, says),
    element("p", { class: "headline failed" }, sentence),
    ...general.map((each) => element("p", { class: "message bad" }, each)),
  );
}

// Returns how to write contributions: with a sign, and with as many decimals as the largest needs for three figures.
// Probabilities are in percent.
export function signing(values, output) {
  const [factor, unit] = output === "probabilities" ? [100, " %"] : [1, ""];
  const most = factor * Math.max(0, ...values.map(Math.abs));
  const exponent = most > 0 ? Math.floor(Math.log10(most)) : 0;
  const places = unit ? 1 : Math.max(0, 2 - exponent);
  const text = (size) => (Math.abs(exponent) < 6 ? size.toFixed(places) : size < most / 1000 ? "0" : size.toExponential(2));
  return (value) => {
    const written = text(factor * Math.abs(value));
    return Number(written) === 0 ? `0${unit}` : `${value < 0 ? "−" : "+"}${written}${unit}`;
  };
}

// The contribution of each input to the output of the predicted class, as signed bars; nothing where there is none.
export function showWhy(place, described, answer) {
  const found = answer.explanation?.[0];
  place.hidden = !found;
  if (!found) return;
  const chosen = Array.isArray(found.base) ? Math.max(0, (answer.classes ?? []).indexOf(answer.prediction[0])) : null;
  const of = (value) => (chosen === null ? value : value[chosen]);
  const rows = Object.entries(found.contributions).map(([name, value]) => [name, of(value)])
    .sort((one, other) => Math.abs(other[1]) - Math.abs(one[1]));
  const most = Math.max(...rows.map(([, value]) => Math.abs(value)), Number.MIN_VALUE);
  const sum = rows.reduce((total, [, value]) => total + value, of(found.base));
  const several = chosen !== null && !answer.classes && found.base.length > 1;
  const measure = { probabilities: "the probability", decision_scores: "the score" }[found.output]
    ?? (several ? `the first of the ${found.base.length} numbers` : "the prediction");
  // The score of a model of two classes is that of the second.
  const explained = chosen === null ? answer.classes?.[1] : answer.prediction[0];
  const what = explained === undefined || found.output === "prediction" ? measure : `${measure} of ${label(explained)}`;
  // What is left by rounding, beside the contributions, is nothing.
  const rounded = (value) => (Math.abs(value) < 1e-9 * most ? 0 : value);
  const write = (value) => (found.output === "probabilities" ? percent : figure)(rounded(value));
  const signed = signing(rows.map(([, value]) => value), found.output);
  // Without a sample, packing knows no other records than those that it made up.
  const start = described.made_up ? "for made-up examples" : "on average";
  const shown = rows.slice(0, 12);
  place.replaceChildren(
    element("h2", {}, "Why"),
    element("p", {}, `From ${write(of(found.base))} ${start} to ${write(sum)}: what each input adds to ${what}.`
      + (found.exact === false ? " The contributions are approximate." : "")),
    element("ol", {}, ...shown.map(([name, value]) => {
      const width = (50 * Math.abs(value)) / most;
      return element("li", {},
        element("code", { title: name }, name),
        drawn("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
          drawn("line", { class: "axis", x1: 50, x2: 50, y1: 0, y2: 10 }),
          drawn("rect", { class: value < 0 ? "down" : "up", x: value < 0 ? 50 - width : 50, width, y: 1, height: 8 })),
        element("span", { class: "signed" }, signed(value)));
    })),
    ...(rows.length > shown.length ? [element("p", {}, `and ${rows.length - shown.length} more inputs`)] : []),
  );
}
