// Images: chosen, dropped, or drawn. A drawing is white on black and fills the image, as digits do in most data sets.

const SIDE = 280;
const PEN = 48;
const SENT = 56;

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

class Editor {
  constructor(field, changed) {
    this.field = field;
    this.changed = changed;
    this.image = field.element.querySelector("img");
    this.file = field.element.querySelector("input[type=file]");
    this.canvas = field.element.querySelector("canvas");
    this.file.addEventListener("change", () => this.take(this.file.files[0]));
    const frame = field.element.querySelector("[data-image]");
    for (const kind of ["dragenter", "dragover"])
      frame.addEventListener(kind, (event) => { event.preventDefault(); frame.classList.add("over"); });
    for (const kind of ["dragleave", "drop"]) frame.addEventListener(kind, () => frame.classList.remove("over"));
    frame.addEventListener("drop", (event) => {
      event.preventDefault();
      this.take(event.dataTransfer.files[0]);
    });
    field.element.addEventListener("filled", () => this.show());
    if (this.canvas) this.prepare();
  }

  // Send a file as it is: the server knows what it reads.
  async take(file) {
    if (!file) return;
    const address = await base64(file);
    this.field.main.value = address.slice(address.indexOf(",") + 1);
    this.show(file.type);
    this.changed();
  }

  show(type = "") {
    const text = this.field.main.value;
    const known = { iVBOR: "image/png", "/9j/": "image/jpeg", UklGR: "image/webp" };
    const found = type || Object.entries(known).find(([start]) => text.startsWith(start))?.[1];
    this.image.hidden = !found;
    if (found) this.image.src = text.startsWith("data:") ? text : `data:${found};base64,${text}`;
    if (this.canvas) this.canvas.hidden = true;
    if (this.draw) this.draw.textContent = "Draw";
  }

  prepare() {
    this.pen = this.canvas.getContext("2d");
    this.draw = this.field.element.querySelector("[data-draw]");
    this.draw.hidden = false;
    this.draw.addEventListener("click", () => this.clear());
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.from = this.point(event);
      this.stroke(this.from);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.from) return;
      for (const each of event.getCoalescedEvents?.() ?? [event]) this.stroke(this.point(each));
    });
    for (const kind of ["pointerup", "pointercancel"])
      this.canvas.addEventListener(kind, () => { this.from = null; });
    this.canvas.addEventListener("keydown", (event) => this.byKey(event));
  }

  clear() {
    this.canvas.hidden = false;
    this.draw.textContent = "Clear";
    this.pen.fillStyle = "#000";
    this.pen.fillRect(0, 0, SIDE, SIDE);
    this.cursor = [SIDE / 2, SIDE / 4];
    this.box = null;
    this.canvas.focus();
    this.use();
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  }

  // The arrow keys draw as well; with Shift they only move.
  byKey(event) {
    const step = { ArrowLeft: [-14, 0], ArrowRight: [14, 0], ArrowUp: [0, -14], ArrowDown: [0, 14] }[event.key];
    if (!step) return;
    event.preventDefault();
    const to = this.cursor.map((value, at) => Math.min(SIDE, Math.max(0, value + step[at])));
    this.from = event.shiftKey ? to : this.cursor;
    this.cursor = to;
    if (!event.shiftKey) this.stroke(to);
    this.from = null;
  }

  stroke(to) {
    Object.assign(this.pen, { strokeStyle: "#fff", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    this.pen.beginPath();
    this.pen.moveTo(...this.from);
    this.pen.lineTo(...to);
    this.pen.stroke();
    const [x, y] = to;
    const [left, top, right, bottom] = this.box ?? [x, y, x, y];
    this.box = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
    this.from = to;
    this.cursor = to;
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => this.use());
  }

  // Send the square around what was drawn.
  use() {
    const sent = document.createElement("canvas");
    sent.width = sent.height = SENT;
    const [left, top, right, bottom] = this.box ?? [0, 0, SIDE, SIDE];
    const side = Math.max(right - left, bottom - top) + PEN;
    const pen = sent.getContext("2d");
    pen.fillRect(0, 0, SENT, SENT);
    pen.drawImage(this.canvas, (left + right - side) / 2, (top + bottom - side) / 2, side, side, 0, 0, SENT, SENT);
    const address = sent.toDataURL("image/png");
    this.field.main.value = address.slice(address.indexOf(",") + 1);
    this.changed();
  }
}

export function imageEditors(form, changed) {
  for (const field of form.fields) if (field.control === "image") new Editor(field, changed);
}
