/* The exported page: the same pictures and the same threshold, with nothing behind it. */

const content = JSON.parse(document.getElementById("content").textContent);
const shared = { level: 0, method: null, mask: "soft", all: [] };
const at = name => document.getElementById(name);
const words = (tag, text, attributes = {}) => element(tag, attributes, text);

function about(name) {
  const facts = content.methods[name];
  at("about-title").textContent = name;
  at("about-text").replaceChildren(...explained(facts));
  at("about").showModal();
}

function tileOf(column, tile, name) {
  const stack = element("div", { class: "stack" }, element("img", { src: column.picture, alt: "" }), element("img", { class: "overlay", src: tile.overlay, alt: `${tile.method} map of ${name} for ${column.explained}` }));
  const lines = [`${tile.seconds.toFixed(2)} s · ${tile.scale}`, tile.completeness === null ? null : `completeness gap ${tile.completeness.toPrecision(2)}`];
  const info = element("button", { type: "button", class: "info", "aria-label": `what ${tile.method} is`, onclick: () => about(tile.method) }, "i");
  return element("figure", { class: "tile" }, element("figcaption", { class: "tile-bar" }, words("strong", tile.method), tile.control ? words("span", "control", { class: "tag" }) : null, info), stack, ...lines.filter(Boolean).map(line => words("p", line, { class: "facts-line" })), ...tile.flags.map(flag => words("p", flag, { class: "flag" })));
}

function drawPicture() {
  const picture = content.pictures[at("picture").selectedIndex];
  const masks = [...new Set(picture.columns.flatMap(column => column.viewer.methods.flatMap(one => Object.keys(one.curves))))];
  if (!masks.includes(shared.mask)) shared.mask = masks[0] ?? "soft";
  at("mask").replaceChildren(...masks.map(mask => element("option", { selected: mask === shared.mask }, mask)));
  shared.all = [];
  at("columns").className = `columns of-${picture.columns.length}`;
  at("columns").replaceChildren(...picture.columns.map(column => {
    const threshold = element("div", { class: "threshold" });
    const bars = column.classes.map(one => element("li", { class: "bar-row" }, element("div", { class: "explain" }, element("span", { class: "fill", style: `width: ${column.share ? 100 * one.p : 0}%`, "aria-hidden": "true" }), words("span", one.label, { class: "label" }), words("span", column.share ? percent(one.p) : number(one.p), { class: "share" }))));
    const section = element("section", { class: "column" }, words("h2", column.model), element("div", { class: "seen" }, element("figure", { class: "original" }, element("img", { src: column.picture, alt: `${picture.name}, the whole picture` }), ...column.notes.map(line => words("figcaption", line))), element("div", { class: "answer" }, element("h3", {}, "explained: ", words("strong", column.explained)), element("ol", { class: "bars" }, ...bars), threshold)), element("div", { class: "tiles" }, ...column.tiles.map(tile => tileOf(column, tile, picture.name))));
    shared.all.push(new Threshold(threshold, column.viewer, shared, column.model));
    return section;
  }));
}

at("picture").append(...content.pictures.map(picture => words("option", picture.name)));
at("picture").addEventListener("change", drawPicture);
at("mask").addEventListener("change", event => { shared.mask = event.target.value; drawPicture(); });
at("opacity").addEventListener("input", event => document.body.style.setProperty("--opacity", event.target.value));
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("about").open || event.target.closest("input, select, pre")) return;
  const turn = by => { const next = at("picture").selectedIndex + by; if (content.pictures[next]) { at("picture").selectedIndex = next; drawPicture(); } };
  const moves = { ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), ArrowUp: () => shared.all[0].setAll(shared.level + 1), ArrowDown: () => shared.all[0].setAll(shared.level - 1) };
  if (moves[event.key]) { event.preventDefault(); moves[event.key](); }
});
drawPicture();
