"use strict";
/* The threshold: hides the lowest pixels of a map and reads the curve there. Nothing is computed by a network here.

   kept pixel = m * pixel + (1 - m) * fill      m = heat (soft) or 1 (binary) where the level map says "kept", else 0

   It is the same code in the page and in the exported file. */

function element(tag, attributes = {}, ...children) {
  const made = document.createElementNS(tag.startsWith("svg:") ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml", tag.replace("svg:", ""));
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true && !name.startsWith("aria-")) made.setAttribute(name, "");
    else if ((value !== false || name.startsWith("aria-")) && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

function explained(facts) {  // what the "i" of a method shows
  const parts = [["p", facts.sentence], ["pre", facts.formula], ["p", facts.words], ["p", facts.departs && `Departs from its source: ${facts.departs}`], ["p", `Reference: ${facts.reference}`]];
  return parts.filter(([, text]) => text).map(([tag, text]) => element(tag, tag === "pre" ? { tabindex: 0 } : {}, text));
}

const percent = value => `${(100 * value).toFixed(value > 0 && value < 0.001 ? 2 : 1)} %`;
const number = value => value === null || value === undefined ? "–" : Math.abs(value) >= 1000 ? value.toExponential(2) : value.toFixed(3);
const DASHES = ["none", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "1 4", "6 2 1 2 1 2"];
const MEASURES = [["api", "API", "relative gain of confidence: higher is better"], ["apd", "APD", "relative drop of confidence: lower is better"], ["ir", "IR", "1 if the confidence rose"], ["dr", "DR", "1 if the confidence fell"]];

const decoded = new Map();  // address -> promise of {data, width, height}
function pixels(address) {
  if (!decoded.has(address)) {
    if (decoded.size > 60) decoded.delete(decoded.keys().next().value);
    decoded.set(address, new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => {
        const canvas = element("canvas", { width: image.width, height: image.height });
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(image, 0, 0);
        resolve(context.getImageData(0, 0, image.width, image.height));
      };
      image.onerror = reject;
      image.src = address;
    }));
  }
  return decoded.get(address);
}

class Threshold {
  /* root: where it is built; data: what view.threshold gives; shared: {level, method, mask, all: [Threshold]}, where
     method is null until one is chosen */
  constructor(root, data, shared, title) {
    Object.assign(this, { root, data, shared, title });
    this.lines = data.methods.map((one, place) => ({ ...one, style: place }));
    this.canvas = element("canvas", { width: data.size[1], height: data.size[0], role: "img", class: data.size[1] < 160 ? "kept coarse" : "kept" });
    this.slider = element("input", { type: "range", min: 0, max: data.levels, step: 1, value: shared.level, class: "level", "aria-label": `threshold of ${title}`, oninput: event => this.setAll(Number(event.target.value)) });
    this.told = element("output", { class: "told" });
    this.chart = element("div", { class: "chart" });
    this.table = element("div", { class: "scroll" });
    root.replaceChildren(element("div", { class: "kept-row" }, this.canvas, this.chart), element("label", { class: "slide" }, element("span", {}, "lowest pixels hidden"), this.slider, this.told), this.table);
    this.draw();
    this.show();
  }

  get line() { return this.lines.find(one => one.method === this.shared.method) ?? this.lines[0]; }

  setAll(level) {
    this.shared.level = Math.max(0, Math.min(this.data.levels, level));
    for (const other of this.shared.all) other.show();
  }

  choose(method) {
    this.shared.method = method;
    for (const other of this.shared.all) { other.draw(); other.show(); }
  }

  curve(one) { return one.curves[this.shared.mask]; }

  show() {
    const began = performance.now(), level = this.shared.level, share = level / this.data.levels;
    this.slider.value = level;
    this.told.textContent = `${Math.round(100 * share)} %`;
    this.slider.setAttribute("aria-valuetext", `${Math.round(100 * share)} percent hidden`);
    this.canvas.setAttribute("aria-label", `${this.title}: what ${this.line.method} keeps with ${Math.round(100 * share)} percent of the pixels hidden`);
    for (const mark of this.chart.querySelectorAll("[data-mark]")) this.place(mark, level);
    for (const cell of this.table.querySelectorAll("[data-cell]")) {
      const [method, name] = cell.dataset.cell.split(" "), curve = this.curve(this.lines.find(one => one.method === method));
      const value = curve?.[name]?.[level];
      cell.textContent = curve ? (name === "o" && value !== null ? percent(value) : number(value)) : "…";
    }
    this.paint(began);
  }

  async paint(began) {
    const { data, shared } = this, line = this.line;
    const [crop, fill, map] = await Promise.all([data.crop, data.fill, line.map].map(pixels));
    const level = shared.level, soft = shared.mask === "soft", many = fill.data.length > 4;
    const context = this.canvas.getContext("2d"), out = context.createImageData(crop.width, crop.height);
    for (let at = 0; at < crop.data.length; at += 4) {
      const kept = map.data[at + 1] > level ? (soft ? map.data[at] / 255 : 1) : 0;
      for (let band = 0; band < 3; band++) out.data[at + band] = kept * crop.data[at + band] + (1 - kept) * fill.data[(many ? at : 0) + band];
      out.data[at + 3] = 255;
    }
    context.putImageData(out, 0, 0);
    this.canvas.dataset.level = level;
    this.canvas.dataset.milliseconds = performance.now() - began;
  }

  x(level) { return 34 + 256 * level / this.data.levels; }
  y(value) { return 10 + 140 * (1 - value); }

  place(mark, level) {
    const x = this.x(level);
    if (mark.dataset.mark === "") { mark.setAttribute("x1", x); mark.setAttribute("x2", x); return; }
    const value = this.curve(this.lines.find(one => one.method === mark.dataset.mark))?.o[level];
    mark.setAttribute("visibility", value === null || value === undefined ? "hidden" : "visible");
    mark.setAttribute("cx", x);
    mark.setAttribute("cy", this.y(value ?? 0));
  }

  draw() {
    const svg = element("svg:svg", { viewBox: "0 0 300 182", role: "img", "aria-label": `confidence over the threshold: ${this.lines.map(one => one.method).join(", ")}; the table has the numbers` });
    for (const value of [0, 0.5, 1]) {
      svg.append(element("svg:line", { class: "rule", x1: this.x(0), x2: this.x(this.data.levels), y1: this.y(value), y2: this.y(value) }));
      svg.append(element("svg:text", { class: "scale", x: 28, y: this.y(value) + 4, "text-anchor": "end" }, `${100 * value}`));
      svg.append(element("svg:text", { class: "scale", x: this.x(value * this.data.levels), y: 166, "text-anchor": "middle" }, `${100 * value}`));
    }
    svg.append(element("svg:text", { class: "scale", x: 162, y: 179, "text-anchor": "middle" }, "% of pixels hidden; left: confidence, %"));
    const first = this.lines.map(one => this.curve(one)).find(Boolean);
    if (first && first.y !== null) svg.append(element("svg:line", { class: "unmasked", x1: this.x(0), x2: this.x(this.data.levels), y1: this.y(first.y), y2: this.y(first.y) }));
    svg.append(element("svg:line", { class: "cursor", "data-mark": "", y1: this.y(1), y2: this.y(0) }));
    for (const one of this.lines) {
      const curve = this.curve(one);
      if (!curve) continue;
      const points = curve.o.map((value, level) => value === null ? "" : `${this.x(level)},${this.y(value)}`).join(" ");
      const kind = `${one.control ? "control" : `s${one.style % 8}`}${one === this.line ? " chosen" : ""}`;
      svg.append(element("svg:polyline", { class: `curve ${kind}`, points, "stroke-dasharray": DASHES[one.style % 8] }));
      svg.append(element("svg:circle", { class: `mark ${kind}`, r: one === this.line ? 4 : 2.6, "data-mark": one.method }));
    }
    this.chart.replaceChildren(svg);
    const head = element("tr", {}, element("th", { scope: "col" }, "shown: map"), element("th", { scope: "col", title: "confidence in the class" }, "conf."), ...MEASURES.map(([, name, meaning]) => element("th", { scope: "col" }, element("abbr", { title: meaning }, name))));
    const group = `shown-${this.title}`;
    const rows = this.lines.map(one => element("tr", { class: one.control ? "is-control" : "" }, element("th", { scope: "row" }, element("label", {}, element("input", { type: "radio", name: group, checked: one === this.line, value: one.method, onchange: () => this.choose(one.method) }), this.swatch(one), element("span", {}, one.method))), ...["o", ...MEASURES.map(([name]) => name)].map(name => element("td", { "data-cell": `${one.method} ${name}` }))));
    const held = this.table.contains(document.activeElement) ? document.activeElement.value : null;
    this.table.replaceChildren(element("table", { class: "numbers" }, element("caption", { class: "unseen" }, `numbers at the threshold, ${this.title}`), element("thead", {}, head), element("tbody", {}, ...rows)));
    if (held) [...this.table.querySelectorAll("input")].find(one => one.value === held)?.focus();
  }

  swatch(one) {
    return element("svg:svg", { class: "swatch", viewBox: "0 0 28 12", "aria-hidden": "true" }, element("svg:line", { class: `curve ${one.control ? "control" : `s${one.style % 8}`}`, x1: 1, x2: 27, y1: 6, y2: 6, "stroke-dasharray": DASHES[one.style % 8] }));
  }
}
