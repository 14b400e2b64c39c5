// Keeps the page of a job up to date while the job waits or runs. Without JavaScript the page loads itself anew.
"use strict";

const EVERY_MS = 1000;
const job = document.querySelector("[data-job]");
const shown = Object.fromEntries([...job.querySelectorAll("[data-shown]")].map((each) => [each.dataset.shown, each]));
const isOpen = (state) => state === "queued" || state === "running";
const looks = { done: "ok", failed: "bad", cancelled: "bad" };

function duration(seconds) {
  if (seconds === null) return "-";
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function link(path, text) {
  const entry = document.createElement("li");
  const anchor = document.createElement("a");
  anchor.href = `${location.pathname.replace(/\/$/, "")}/${path}`;
  anchor.download = "";
  anchor.textContent = text;
  entry.append(anchor);
  return entry;
}

function withCode(text) {
  return text.split("`").map((part, at) => {
    if (at % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
}

function show(told) {
  const percent = `${Math.floor(told.fraction * 100)} %`;
  job.dataset.state = told.state;
  if (shown.state.textContent !== told.state) shown.state.textContent = told.state;
  shown.state.className = `state ${looks[told.state] ?? "wait"}`;
  shown.bar.value = told.fraction;
  shown.percent.textContent = percent;
  shown.rows.textContent = told.rows.toLocaleString("en");
  shown.rejected.textContent = told.rejected.toLocaleString("en");
  shown.rate.textContent = told.rows_per_s ? Math.round(told.rows_per_s).toLocaleString("en") : "-";
  shown.left.textContent = isOpen(told.state) ? duration(told.left_s) : "-";
  shown.waits_for.replaceChildren(...withCode(`The job waits, because ${told.waits_for}.`));
  shown.waits_for.hidden = !told.waits_for;
  shown.error.textContent = told.error ?? "";
  shown.error.hidden = !told.error;
  shown.files.replaceChildren();
  if (told.links.result) shown.files.append(link("result", `Result (${told.output})`));
  if (told.links.rejects) shown.files.append(link("rejects", "Rejected rows"));
  shown.files.hidden = !shown.files.children.length;
  button.textContent = isOpen(told.state) ? "Cancel the job" : "Delete the job";
  document.title = `Job ${told.id.slice(0, 8)}: ${isOpen(told.state) ? percent : told.state} · Retort`;
}

async function look() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "application/json" } });
    if (answer.ok) show(await answer.json());
  } catch {
    // The server may be restarting: ask again.
  }
  if (isOpen(job.dataset.state)) setTimeout(look, EVERY_MS);
}

const button = job.querySelector("[data-delete]");
button.addEventListener("click", async () => {
  button.disabled = true;
  const answer = await fetch(location.href, { method: "DELETE", headers: { Accept: "application/json" } });
  button.disabled = false;
  if (answer.status === 204) location.assign(location.pathname.replace(/\/[^/]*\/?$/, ""));
  else if (answer.ok) show(await answer.json());
});
job.querySelector("[data-acts]").hidden = false;
if (isOpen(job.dataset.state)) setTimeout(look, EVERY_MS);
