"use strict";

const all = (root, selector) => [...root.querySelectorAll(selector)];

/* Draw one method's lines, points and rows strongly and all others faintly; null ends it. */
function highlight(root, method) {
  root.classList.toggle("focused", method !== null);
  for (const mark of all(root, ".line, .point, .row")) mark.classList.toggle("focus", mark.dataset.method === method);
}

/* The check boxes: which methods the figures show. */
function legend(block) {
  const boxes = all(block, ".legend input");
  const figures = all(block, ".panels, [data-figure=tradeoff], [data-figure=differences]");
  const hidden = new Set();

  const apply = () => {
    hidden.clear();
    for (const box of boxes) if (!box.checked) hidden.add(box.value);
    for (const mark of all(block, ".line, .point")) mark.classList.toggle("off", hidden.has(mark.dataset.method));
    const shown = boxes.length - hidden.size;
    block.style.setProperty("--band", Math.min(0.14, Math.max(0.035, 0.9 / Math.max(1, shown))).toFixed(3));
  };
  const focus = (method) => figures.forEach((figure) => highlight(figure, method));

  for (const box of boxes) {
    const label = box.closest("label");
    const begin = () => box.checked && focus(box.value);
    const end = () => focus(null);
    box.addEventListener("change", () => { apply(); end(); });
    label.addEventListener("pointerenter", begin);
    label.addEventListener("pointerleave", end);
    box.addEventListener("focus", () => box.matches(":focus-visible") && begin());
    box.addEventListener("blur", end);
  }
  for (const button of all(block, ".legend [data-show]")) {
    button.addEventListener("click", () => {
      for (const box of boxes) {
        const control = box.closest("label").classList.contains("is-control");
        box.checked = button.dataset.show === "all" || (button.dataset.show === "methods" && !control);
      }
      apply();
    });
  }
  apply();
  return hidden;
}

/* Reading values off the curves, by pointer and by arrow keys. */
function curves(block, numbers, hidden) {
  const swatches = new Map(all(block, ".legend input").map((box) => [box.value, box.closest("label").querySelector("svg")]));

  for (const box of all(block, ".panels .panel-box")) {
    const svg = box.querySelector("svg.panel"), reading = box.querySelector(".reading"), cursor = svg.querySelector(".cursor");
    const lines = numbers.curves[box.closest(".panels").dataset.mask][svg.dataset.curve];
    const width = svg.viewBox.baseVal.width, left = Number(svg.dataset.left), span = width - left - Number(svg.dataset.right);
    const last = Object.values(lines)[0][0].length - 1;
    let level = null;

    const row = (table, method, [values, lows, highs]) => {
      const line = table.insertRow(), name = line.insertCell();
      name.append(swatches.get(method).cloneNode(true), method);
      line.insertCell().textContent = values[level].toFixed(3);
      line.insertCell().textContent = lows[level] === null ? "" : "[" + lows[level].toFixed(3) + ", " + highs[level].toFixed(3) + "]";
    };
    const read = () => {
      const x = left + (level / last) * span;
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.visibility = "visible";
      const table = document.createElement("table");
      table.createCaption().textContent = "t = " + (level / last).toFixed(2).replace(/0$/, "");
      const shown = Object.entries(lines).filter(([method, [values]]) => !hidden.has(method) && values[level] !== null);
      for (const [method, line] of shown.sort((a, b) => b[1][0][level] - a[1][0][level])) row(table, method, line);
      reading.replaceChildren(table);
      reading.style.display = "block";
      const at = (x / width) * svg.clientWidth + 12, edge = box.getBoundingClientRect().left;
      const room = document.documentElement.clientWidth - 8;
      const beside = edge + at + 14 + reading.offsetWidth < room ? at + 14 : at - 14 - reading.offsetWidth;
      reading.style.left = Math.min(Math.max(beside, 8 - edge), room - edge - reading.offsetWidth) + "px";
      reading.style.top = beside < 8 - edge ? "100%" : "44px";
    };
    const leave = () => { reading.style.display = "none"; cursor.style.visibility = "hidden"; };
    const follow = (event) => {
      const frame = svg.getBoundingClientRect();
      const share = (((event.clientX - frame.left) / frame.width) * width - left) / span;
      level = Math.min(last, Math.max(0, Math.round(share * last)));
      read();
    };
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    svg.addEventListener("pointerleave", leave);
    box.addEventListener("blur", leave);
    box.addEventListener("keydown", (event) => {
      const next = { ArrowRight: (level ?? -1) + 1, ArrowLeft: (level ?? 1) - 1, Home: 0, End: last }[event.key];
      if (event.key === "Escape") leave();
      if (next === undefined) return;
      event.preventDefault();
      level = Math.min(last, Math.max(0, next));
      read();
    });
  }
}

/* The lists from which a measure is chosen: one figure of each kind stands open. */
function measures(block, changed) {
  for (const select of all(block, "select[data-choose=tradeoff], select[data-choose=differences]")) {
    const figures = all(block, "[data-figure=" + select.dataset.choose + "]");
    const choose = () => {
      for (const figure of figures) figure.hidden = figure.dataset.quality !== select.value;
      changed();
    };
    select.addEventListener("change", choose);
    choose();
  }
}

/* Multiples of 1, 2 or 5 times a power of ten between two values, about six. */
function roundTicks(low, high) {
  const raw = (high - low) / 6, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= raw);
  const ticks = [];
  for (let place = Math.ceil(low / step); place * step <= high; place += 1) ticks.push(place * step);
  return ticks;
}

/* An element of a drawing. */
function drawn(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/* A method minus the reference: [mean, low, high, p, better, worse], or null. Each pair of methods is stored once. */
function difference(pairs, count, reference, method) {
  if (reference === method) return null;
  const first = Math.min(reference, method), second = Math.max(reference, method);
  const [mean, low, high, p, reversed, better, worse] = pairs[first * count - (first * (first + 1)) / 2 + second - first - 1];
  if (mean === null) return null;
  const minus = (value) => (value === null ? null : -value);
  return first === reference ? [mean, low, high, p, better, worse] : [-mean, minus(high), minus(low), reversed, worse, better];
}

/* Paired differences: another measure or reference draws the axis and moves the marks. */
function differences(block, numbers) {
  const measure = block.querySelector("select[data-choose=differences]");
  const reference = block.querySelector("select[data-choose=reference]");
  const told = block.querySelector(".told");
  if (!measure) return () => {};
  const methods = [...reference.options].map((option) => option.value);
  const percent = (share) => Math.round(100 * share) + " %";

  const describe = (method, [mean, low, high, p, better, worse]) =>
    method + ": " + mean + (low === null ? "" : " [" + low + ", " + high + "]") + (p === null ? "" : ", p = " + p) +
    (better === null ? "" : "; better on " + percent(better) + ", worse on " + percent(worse) + " of the images");

  /* Draw the ticks for the intervals of the methods, and return where a value lies. */
  const axis = (figure, shown) => {
    const ends = shown.flatMap((one) => (one === null ? [] : one.slice(0, 3).filter((end) => end !== null)));
    const least = Math.min(0, ...ends), most = Math.max(0, ...ends), margin = 0.05 * (most - least) || 1;
    const low = least - margin, high = most + margin, ticks = figure.querySelector(".ticks"), { top, bottom } = ticks.dataset;
    const start = Number(figure.querySelector("svg").dataset.start), end = Number(figure.querySelector("svg").dataset.end);
    const place = (value) => start + (Math.min(high, Math.max(low, value)) - low) / (high - low) * (end - start);
    place.holds = (value) => low <= value && value <= high;
    ticks.replaceChildren(...roundTicks(low, high).flatMap((tick) => {
      const x = place(tick).toFixed(1), sign = tick > 0 ? "+" : "";
      return [
        drawn("line", { class: tick === 0 ? "zero" : "grid", x1: x, x2: x, y1: top, y2: bottom }),
        drawn("text", { class: "tick", x, y: Number(bottom) + 15, "text-anchor": "middle" }, sign + Number(tick.toPrecision(3))),
      ];
    }));
    return place;
  };

  const move = () => {
    const figure = all(block, "[data-figure=differences]").find((one) => one.dataset.quality === measure.value);
    const rows = all(figure, ".row"), base = methods.indexOf(reference.value);
    const differenceOf = (row) => difference(numbers.pairs[measure.value], methods.length, base, methods.indexOf(row.dataset.method));
    const place = axis(figure, rows.filter((row) => !row.querySelector(".mark.control")).map(differenceOf));
    let apart = 0, known = 0;
    for (const row of rows) {
      const found = differenceOf(row), mark = row.querySelector(".mark");
      mark.setAttribute("visibility", found === null ? "hidden" : "visible");
      if (found === null) continue;
      const [mean, least, most] = found, range = mark.querySelector(".range"), centre = mark.querySelector(".centre");
      mark.classList.toggle("outside", !place.holds(mean));
      range.setAttribute("x1", place(least ?? mean));
      range.setAttribute("x2", place(most ?? mean));
      centre.setAttribute("transform", "translate(" + place(mean) + " " + centre.dataset.y + ")");
      row.querySelector("title").textContent = describe(row.dataset.method, found);
      known += 1;
      if (least !== null && (least > 0 || most < 0)) apart += 1;
    }
    told.textContent = apart + " of " + known + " intervals lie away from " + reference.value + ".";
  };
  reference.addEventListener("change", move);
  return move;
}

/* One image with all its maps and its own curves, in a dialog. */
function gallery() {
  const viewer = document.querySelector(".viewer"), body = viewer.querySelector(".viewer-body");
  const title = viewer.querySelector("h2"), images = all(document, "tr.image");
  let shown = 0;

  const show = (place) => {
    shown = (place + images.length) % images.length;
    const row = images[shown];
    title.textContent = row.querySelector(".about b").textContent;
    body.replaceChildren(row.querySelector("template").content.cloneNode(true));
    const pictures = new Map(all(row, "td[data-title] img").map((img) => [img.parentElement.dataset.title, img]));
    pictures.set("input", row.querySelector("th img"));
    const drawn = new Set(all(body, ".line").map((line) => line.dataset.method));
    for (const img of all(body, "img[data-of]")) {
      const from = pictures.get(img.dataset.of);
      img.src = from.src;
      img.className = from.className;
      const tile = img.closest("figure");
      tile.addEventListener("pointerenter", () => drawn.has(img.dataset.of) && highlight(body, img.dataset.of));
      tile.addEventListener("pointerleave", () => highlight(body, null));
    }
    viewer.scrollTop = 0;
  };
  const open = (place) => {
    show(place);
    if (!viewer.open) viewer.showModal();
  };
  images.forEach((row, place) => {
    const button = row.querySelector(".open");
    button.addEventListener("click", () => open(place));
    for (const cell of all(row, "td")) cell.addEventListener("click", () => { button.focus({ preventScroll: true }); open(place); });
  });
  for (const button of all(viewer, "[data-step]")) button.addEventListener("click", () => show(shown + Number(button.dataset.step)));
  viewer.querySelector("[data-close]").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  viewer.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) show(shown + step);
  });
}

for (const block of all(document, ".block")) {
  const numbers = JSON.parse(block.querySelector(".numbers").textContent);
  curves(block, numbers, legend(block));
  measures(block, differences(block, numbers));
}
gallery();
for (const hint of all(document, "td > .unseen")) hint.parentElement.title = hint.textContent.trim();
addEventListener("beforeprint", () => { for (const part of all(document, "details")) part.open = true; });
