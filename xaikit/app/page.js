"use strict";
/* The page: draws the sections that the server sends, and sends what is chosen. All text goes in as text. */

const tab = { sections: {}, shared: { level: 0, method: null, mask: "soft", all: [] }, thresholds: {}, opacity: 1, address: "" };
const find = name => document.getElementById(name);
const send = message => emitEvent("xaikit", message);
const choose = changes => send({ choose: changes });
const text = (tag, content, attributes = {}) => element(tag, attributes, content);
const button = (label, onclick, attributes = {}) => element("button", { type: "button", onclick, ...attributes }, label);

function receive(sections) {  // name -> content, or null for a section that is gone
  for (const [name, content] of Object.entries(sections)) {
    if (content === null) delete tab.sections[name];
    else tab.sections[name] = content;
  }
  const held = document.activeElement?.closest?.("[data-key]")?.dataset.key;
  for (const name of ["strip", "controls", "columns", "code", "notice"]) if (name in sections && sections[name]) DRAW[name](sections[name]);
  for (const place of tab.sections.columns.keys()) {
    const column = `column${place}`, about = tab.sections[column];
    const anew = column in sections || "columns" in sections;
    if (anew) drawColumn(place, about);
    for (const method of about.tiles ?? []) if (anew || `${column}.${method}` in sections) drawTile(place, method);
    if (anew || `${column}.viewer` in sections || "controls" in sections) drawThreshold(place);
  }
  if (held && document.activeElement === document.body) document.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
  document.querySelector(".app").dataset.version = (Number(document.querySelector(".app").dataset.version) || 0) + 1;
}

const DRAW = {
  strip({ pictures, picture }) {
    find("strip").replaceChildren(...pictures.map(one => element("button", { type: "button", class: "thumb", title: one.name, "data-key": `picture ${one.id}`, "aria-pressed": one.id === picture, onclick: () => choose({ picture: one.id }) }, element("img", { src: `thumbnail/${one.id}`, alt: one.name, loading: "lazy", width: 56, height: 56 }))));
    find("strip").querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  },
  controls(controls) {
    const pick = (key, label, names, chosen, change, none) => element("label", { class: "pick" }, text("span", label), element("select", { "data-key": key, onchange: event => change(event.target.value) }, ...(none ? [element("option", { value: "" }, none)] : []), ...names.map(name => element("option", { value: name, selected: name === chosen }, name))));
    const [first, second] = controls.models;
    find("models").replaceChildren(pick("model", "network", controls.offers, first, name => choose({ models: second && second !== name ? [name, second] : [name] })), controls.offers.length > 1 ? pick("second", "compare with", controls.offers.filter(name => name !== first), second, name => choose({ models: name ? [first, name] : [first] }), "none") : null);
    const families = Object.entries(grouped(controls.methods));
    find("methods").replaceChildren(...families.map(([family, methods]) => element("fieldset", {}, text("legend", family), ...methods.map(one => element("div", { class: "method" }, element("label", {}, element("input", { type: "checkbox", "data-key": `method ${one.name}`, value: one.name, checked: one.chosen || one.always, disabled: one.always, onchange: chooseMethods }), text("span", one.name)), text("small", one.always ? "always shown" : one.cost ?? ""), info(one))))));
    find("drawing").replaceChildren(pick("cmap", "colours", controls.cmaps, controls.cmap, name => send({ display: { cmap: name } })), element("label", { class: "pick" }, text("span", "opacity"), element("input", { type: "range", min: 0, max: 1, step: 0.05, value: tab.opacity, "aria-label": "opacity of the maps", oninput: event => setOpacity(event.target.value) })), element("label", { class: "pick" }, element("input", { type: "checkbox", "data-key": "shared", checked: controls.shared, onchange: event => send({ display: { shared: event.target.checked } }) }), text("span", "one scale for all maps")), element("label", { class: "pick" }, text("span", "seed"), element("input", { type: "number", min: 0, max: 2147483647, value: controls.seed, "data-key": "seed", onchange: event => choose({ seed: Number(event.target.value) }) })));
    tab.shared.mask = controls.mask;
    find("removal").replaceChildren(pick("mask", "masks", ["soft", "binary"], controls.mask, mask => choose({ mask })), pick("fill", "filled with", controls.fills, controls.fill, fill => choose({ fill })));
  },
  columns(models) {
    find("columns").className = `columns of-${models.length}`;
    find("columns").replaceChildren(...models.map((_, place) => element("section", { class: "column", id: `column${place}` })));
    tab.shared.all = [];
    tab.thresholds = {};
    find("thresholds").replaceChildren(...models.map((_, place) => element("div", { class: "threshold", id: `threshold${place}` })));
  },
  code({ python, commands }) {
    const block = (title, content) => element("div", { class: "code" }, element("div", { class: "code-bar" }, text("h3", title), button("copy", () => navigator.clipboard.writeText(content).then(() => say(`${title} copied`)))), element("pre", { tabindex: 0 }, text("code", content)));
    const open = find("code").querySelector("details")?.open;
    find("code").replaceChildren(element("details", { open }, text("summary", "the lines that make exactly this"), block("Python", python), ...commands.map(line => block("command", line))));
  },
  notice(line) { say(line.text); },
};

function grouped(methods) {
  const groups = {};
  for (const one of methods) (groups[one.family] ??= []).push(one);
  return groups;
}

function chooseMethods() {
  choose({ methods: [...find("methods").querySelectorAll("input:checked:enabled")].map(box => box.value) });
}

function info(one) {
  return button("i", () => {
    find("about-title").textContent = one.name;
    find("about-text").replaceChildren(...explained(one));
    find("about").showModal();
  }, { class: "info", "aria-label": `what ${one.name} is` });
}

function say(line) {
  find("notice").textContent = line;
  find("notice").classList.toggle("shown", Boolean(line));
}

function drawColumn(place, about) {
  const section = find(`column${place}`);
  if (about.state !== "ready") {
    section.replaceChildren(text("h2", about.model), about.state === "failed" ? element("p", { class: "warning" }, about.reason, " ", button("try again", () => send({ again: [about.model, ""] }))) : element("p", { class: "quiet" }, "loading …"));
    if (place === 0) find("layers").replaceChildren();
    return;
  }
  const top = Math.max(...about.classes.map(one => Math.abs(one.p)), 1e-9);
  const bars = about.classes.map(one => element("li", { class: one.index === about.target.index ? "bar-row chosen" : "bar-row" }, element("button", { type: "button", class: "explain", "data-key": `class ${place} ${one.index}`, "aria-pressed": one.index === about.target.index, title: `explain ${one.label}`, onclick: () => choose({ target: one.index, ...(about.against?.index === one.index ? { against: null } : {}) }) }, element("span", { class: "fill", style: `width: ${(100 * (about.share ? one.p : Math.abs(one.p) / top)).toFixed(2)}%`, "aria-hidden": "true" }), text("span", one.label, { class: "label" }), text("span", about.share ? percent(one.p) : number(one.p), { class: "share" })), button("against", () => choose({ target: about.target.index, against: about.against?.index === one.index ? null : one.index }), { class: "against", "data-key": `against ${place} ${one.index}`, "aria-pressed": about.against?.index === one.index, disabled: one.index === about.target.index, "aria-label": `explain against ${one.label}` })));
  const list = `labels${place}`;
  const another = element("label", { class: "pick" }, text("span", "another class"), element("input", { list, "data-key": `another ${place}`, placeholder: "type a label", onfocus: () => send({ labels: place }), onchange: event => { const index = parseInt(event.target.value, 10); if (Number.isInteger(index)) choose({ target: index, against: null }); } }), element("datalist", { id: list }));
  const explained = about.against ? `${about.target.label} against ${about.against.label}` : about.target.label;
  section.replaceChildren(
    element("h2", {}, about.model),
    element("div", { class: "seen" },
      element("figure", { class: "original" }, element("img", { src: about.picture, alt: `${about.name}, the whole picture` }), ...about.notes.map(line => text("figcaption", line))),
      element("div", { class: "answer" }, element("h3", {}, "explained: ", text("strong", explained, { class: "explained" }), about.target.index === about.own ? "" : text("small", " (not the network's own answer)")), element("ol", { class: "bars" }, ...bars), another)),
    element("div", { class: "tiles" }, ...about.tiles.map(method => element("figure", { class: "tile", id: `tile${place} ${method}`, "data-method": method }))));
  if (place === 0) find("layers").replaceChildren(...about.layers.map(one => element("button", { type: "button", class: "thumb layer", "data-key": `layer ${one.name}`, "aria-pressed": one.chosen, title: one.name, onclick: () => choose({ layer: one.automatic ? null : one.name }) }, element("img", { src: one.picture, alt: "" }), text("span", one.name), one.automatic ? text("small", "automatic") : null)));
  const chosen = place === 0 && find("layers").querySelector("[aria-pressed=true]");
  if (chosen) find("layers").scrollTop = chosen.offsetTop - find("layers").offsetTop - 80;
}

function drawTile(place, method) {
  const box = find(`tile${place} ${method}`), tile = tab.sections[`column${place}.${method}`], about = tab.sections[`column${place}`];
  if (!box || !tile) return;
  const one = tab.sections.controls.methods.find(other => other.name === method), model = about.model;
  const bar = element("figcaption", { class: "tile-bar" }, text("strong", method), tile.control ? text("span", "control", { class: "tag" }) : null, info(one));
  const body = [];
  if (tile.state === "done") {
    const explained = about.against ? `${about.target.label} against ${about.against.label}` : about.target.label;
    const stack = element("div", { class: "stack", tabindex: 0, role: "group", "data-key": `stack ${place} ${method}`, "aria-label": `${method} map; arrow keys move the pixel that is read`, onclick: event => { const box = event.currentTarget.getBoundingClientRect(); send({ display: { place: [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height] } }); }, onkeydown: event => movePlace(event, about.place) }, element("img", { src: about.picture, alt: "" }), element("img", { class: "overlay", src: tile.overlay, alt: `${method} map of ${about.name} for ${explained}` }), about.place ? element("span", { class: "cross", style: `left: ${100 * about.place[0]}%; top: ${100 * about.place[1]}%`, "aria-hidden": "true" }) : null);
    body.push(stack, element("p", { class: "facts-line" }, `${tile.seconds < 0.01 ? "under 0.01" : tile.seconds.toFixed(2)} s · ${tile.scale}`), tile.layer ? text("p", `layer ${tile.layer}`, { class: "facts-line" }) : null, tile.completeness === null ? null : text("p", `completeness gap ${tile.completeness.toPrecision(2)}`, { class: "facts-line" }), "value" in tile ? text("p", `here: ${tile.value}`, { class: "facts-line here" }) : null, ...tile.flags.map(flag => text("p", flag, { class: "flag" })), tile.curve ? text("p", `no curve: ${tile.curve}`, { class: "flag" }) : null);
  } else if (tile.state === "running") {
    body.push(element("div", { class: "blank" }, element("progress", { max: tile.total, value: tile.done, "aria-label": `progress of ${method}` }), text("p", `${tile.done.toLocaleString("en")} of ${tile.total.toLocaleString("en")} forwards`), button("cancel", () => send({ cancel: [model, method] }), { "data-key": `cancel ${place} ${method}` })));
  } else if (tile.state === "waiting") {
    body.push(element("div", { class: "blank" }, text("p", `waits: ${tile.cost}`), button("cancel", () => send({ cancel: [model, method] }), { "data-key": `cancel ${place} ${method}` })));
  } else {
    body.push(element("div", { class: "blank" }, text("p", tile.reason, { class: "flag" }), text("p", tile.cost, { class: "facts-line" }), button("run", () => send({ again: [model, method] }), { "data-key": `cancel ${place} ${method}` })));
  }
  box.dataset.state = tile.state;
  box.replaceChildren(bar, ...body.filter(Boolean));
}

function movePlace(event, place) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  const [across, down] = place ?? [0.5, 0.5];
  send({ display: { place: [Math.min(0.99, Math.max(0, across + 0.02 * step[0])), Math.min(0.99, Math.max(0, down + 0.02 * step[1]))] } });
}

function drawThreshold(place) {
  const data = tab.sections[`column${place}.viewer`], root = find(`threshold${place}`), about = tab.sections[`column${place}`];
  tab.shared.all = tab.shared.all.filter(one => one !== tab.thresholds[place]);
  if (!root || !data || about.state !== "ready") { root?.replaceChildren(); return; }
  const inside = element("div");
  const holding = root.contains(document.activeElement) ? document.activeElement.className : null;
  root.replaceChildren(...(tab.sections.columns.length > 1 ? [text("h3", about.model)] : []), inside);
  tab.thresholds[place] = new Threshold(inside, data, tab.shared, about.model);
  tab.shared.all.push(tab.thresholds[place]);
  if (holding === "level") tab.thresholds[place].slider.focus();
}

function setOpacity(value) {
  tab.opacity = value;
  document.querySelector(".app").style.setProperty("--opacity", value);
}

function step(by) {
  const { pictures, picture } = tab.sections.strip, place = pictures.findIndex(one => one.id === picture) + by;
  if (pictures[place]) choose({ picture: pictures[place].id });
}

function begin(address) {
  tab.address = address;
  for (const kind of ["png", "npz", "safetensors", "json", "page"]) find(`get-${kind}`).href = `take/${address}/${kind}`;
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || find("about").open || event.target.closest?.("input, select, textarea, pre, .stack")) return;
    const moves = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => tab.shared.all[0]?.setAll(tab.shared.level + 1), ArrowDown: () => tab.shared.all[0]?.setAll(tab.shared.level - 1) };
    if (moves[event.key]) { event.preventDefault(); moves[event.key](); }
  });
  find("files").addEventListener("change", event => { upload([...event.target.files]); event.target.value = ""; });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) document.addEventListener(kind, event => {
    event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") upload([...event.dataTransfer.files]);
  });
  send({ begin: true });
}

async function upload(files) {
  for (const file of files) {
    say(`reading ${file.name} …`);
    const answer = await fetch(`upload/${tab.address}?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file }).catch(() => null);
    const told = answer ? await answer.json().catch(() => null) : null;
    say(told?.text ?? `${file.name}: could not be sent; it may be too large`);
  }
}

function labels(place, names) {
  find(`labels${place}`)?.replaceChildren(...names.map((label, index) => element("option", { value: `${index} ${label}` })));
}
