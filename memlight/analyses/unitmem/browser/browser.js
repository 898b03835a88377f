// Layers, their units, the images that drive them. What is shown is a function of the address:
//   #RESULT   #RESULT/LAYER   #RESULT/LAYER/UNIT   #RESULT/image:ID
// with names as encodeURIComponent writes them, in which no colon or slash is left.
(() => {
  "use strict";
  const MOST_PICTURES = 24;
  const root = document.getElementById("browser");
  const data = JSON.parse(document.getElementById("browser-data").textContent);
  const positionOf = new Map(data.ids.map((id, position) => [id, position]));

  // ---- addresses

  const address = (result, ...parts) => "#" + [result.name, ...parts].map(encodeURIComponent).join("/");
  const imageAddress = (result, image) => `${address(result)}/image:${data.ids[image]}`;

  /** What an address names; null for one that is none of the browser's. */
  function parse(hash) {
    const [name, layerName, unitName] = hash.slice(1).split("/");
    const result = data.results.find(other => encodeURIComponent(other.name) === name);
    if (!result) return null;
    if (!layerName) return {result};
    if (layerName.startsWith("image:")) {
      const image = positionOf.get(Number(layerName.slice(6)));
      return image === undefined ? {result, unknown: `image ${layerName.slice(6)}`} : {result, image};
    }
    const layer = result.layers.find(other => encodeURIComponent(other.name) === layerName);
    if (!layer) return {result, unknown: `layer ${layerName}`};
    if (!unitName) return {result, layer};
    const row = layer.unit.indexOf(Number(unitName));
    return row < 0 ? {result, layer, unknown: `unit ${unitName}`} : {result, layer, row};
  }

  // ---- elements

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const text = (tag, words, attributes = {}) => element(tag, attributes, words);
  const plural = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;
  const share = value => `--share: ${Math.max(0, Math.min(1, value)) || 0}`;
  const number = (value, digits = 3) => value.toFixed(digits).replace("-", "\u2212");

  const activation = value => value === 0 || value >= 0.001 ? value.toPrecision(3) : value.toExponential(2);

  function picture(image, classes = "picture") {
    const id = `image ${data.ids[image]}`;
    if (!data.webp[image])
      return element("span", {class: classes, role: "img", "aria-label": `${id}, no picture here`});
    const made = element("img", {class: classes, alt: id, src: `data:image/webp;base64,${data.webp[image]}`});
    made.onload = () => made.classList.toggle("small", made.naturalWidth <= 48);  // enlarged, never smeared
    return made;
  }

  const MOST_LETTERS = 14;
  const pathOf = image => data.paths?.[image] ?? null;

  /** The name of an image's file, shortened in the middle; null where it is not known. */
  function nameOf(image) {
    const letters = [...(pathOf(image) ?? "").split("/").pop()];
    if (letters.length <= MOST_LETTERS) return letters.join("") || null;
    const end = MOST_LETTERS / 2;
    return `${letters.slice(0, MOST_LETTERS - 1 - end).join("")}\u2026${letters.slice(-end).join("")}`;
  }

  /** Pictures in reading order, each a link to its image, with words below. */
  function pictures(result, images, wordsOf, barOf = null) {
    const items = images.map((image, i) => {
      const bar = barOf ? [element("span", {class: "bar", style: share(barOf(i))})] : [];
      const link = element("a", {href: imageAddress(result, image)}, picture(image), ...bar);
      if (nameOf(image)) link.append(text("span", nameOf(image), {class: "name", title: pathOf(image)}));
      link.append(`id ${data.ids[image]}`, element("br", {}), wordsOf(i));
      return element("li", {}, link);
    });
    return element("ol", {class: "images"}, ...items);
  }

  // ---- which units an image drives

  const driven = new Map();

  /** For each image, {layer, row, rank} of the units that it is among the strongest of; made once for a result. */
  function drivenBy(result) {
    if (!driven.has(result)) {
      const units = data.ids.map(() => []);
      for (const layer of result.layers)
        layer.images.forEach((images, row) => images.forEach((image, rank) => units[image].push({layer, row, rank})));
      driven.set(result, units);
    }
    return driven.get(result);
  }

  /** Images that are the strongest of the most units of these layers: [image, how many units]. */
  function frequent(layers) {
    const counts = new Map();
    for (const layer of layers)
      for (const [first] of layer.images) if (first !== undefined) counts.set(first, (counts.get(first) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, MOST_PICTURES);
  }

  /** How many of the strongest images of a unit are known. */
  const mostImages = result => result.layers.reduce((most, layer) =>
    layer.images.reduce((longest, images) => Math.max(longest, images.length), most), 0);

  // ---- the right pane

  function gallery(result, layers, title) {
    const most = frequent(layers);
    const alive = layers.reduce((sum, layer) => sum + layer.alive, 0);
    return [
      text("h3", title),
      text("p", `The images that are the strongest of the most units; ${plural(alive, "unit")} ever fire.`),
      pictures(result, most.map(([image]) => image), i => `of ${plural(most[i][1], "unit")}`),
    ];
  }

  function unitWords(layer, row) {
    let words = `UnitMem ${number(layer.score[row])}`;
    if (layer.null && layer.null[row] !== null) {
      const verdict = layer.score[row] > layer.null_p95[row] ? "above" : "within";
      words += `, ${verdict} what exchangeable images give: ${number(layer.null[row])}, one time in 20 more than ` +
               number(layer.null_p95[row]);
      if (layer.calibrated === false) words += " (which is not calibrated in this layer)";
    }
    const unseen = layer.held_out && layer.held_out[row] !== null;
    return `${words}.${unseen ? ` Held-out images give ${number(layer.held_out[row])}.` : ""}`;
  }

  function unitDetail(result, layer, row) {
    const title = text("h3", `${layer.name}, unit ${layer.unit[row]}`);
    const images = layer.images[row], mu = layer.mu[row], most = mostImages(result);
    if (!images.length) return [title, text("p", "This unit never fires: it is dead, and no image drives it.")];
    const silent = images.length < most ? " All other images leave it silent." : "";
    const rest = `Its strongest images; the mean mu of all images but the first is ${activation(layer.rest[row])}.`;
    return [
      title,
      text("p", unitWords(layer, row)),
      text("p", rest + silent),
      pictures(result, images, i => `mu ${activation(mu[i])}`, i => mu[i] / mu[0]),
    ];
  }

  function imageDetail(result, image) {
    const units = drivenBy(result)[image];
    const firsts = units.filter(unit => unit.rank === 0).length;
    const alive = result.layers.reduce((sum, layer) => sum + layer.alive, 0);
    const made = [
      text("h3", `Image ${data.ids[image]}`),
      ...(pathOf(image) ? [text("p", pathOf(image), {class: "path"})] : []),
      picture(image, "picture large"),
      text("p", `The strongest image of ${plural(firsts, "unit")} and among the ${mostImages(result)} strongest of ` +
                `${units.length}, out of ${alive} that ever fire.`),
    ];
    for (const layer of new Set(units.map(unit => unit.layer))) {
      const here = units.filter(unit => unit.layer === layer);
      const links = here.sort((a, b) => a.rank - b.rank || a.row - b.row).map(({row, rank}) =>
        element("a", {href: address(result, layer.name, layer.unit[row]), class: rank === 0 ? "first" : null,
                      title: `UnitMem ${number(layer.score[row])}, mu ${activation(layer.mu[row][rank])}`},
                `unit ${layer.unit[row]}: ${rank === 0 ? "strongest" : `rank ${rank + 1}`}`));
      made.push(text("h4", `${layer.name}: ${plural(here.length, "unit")}`));
      made.push(element("div", {class: "units"}, ...links));
    }
    return made;
  }

  function detail({result, layer, row, image, unknown}) {
    if (unknown) return [text("h3", `There is no ${unknown} here`)];
    if (image !== undefined) return imageDetail(result, image);
    if (row !== undefined) return unitDetail(result, layer, row);
    return layer ? gallery(result, [layer], layer.name) : gallery(result, result.layers, "All layers");
  }

  // ---- the lists

  /** A list of links of which one is current, and which arrow keys walk through. */
  function list(title, links) {
    const pane = element("div", {class: "pane list"}, text("h4", title),
                         element("ul", {"aria-label": title}, ...links.map(link => element("li", {}, link))));
    pane.onkeydown = event => {
      const now = links.indexOf(document.activeElement);
      const next = {ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: links.length - 1}[event.key];
      if (now < 0 || !links[next]) return;
      event.preventDefault();
      history.replaceState(null, "", links[next].getAttribute("href"));  // walking leaves no trail to go back through
      show();
      links[next].focus();
    };
    return {pane, links};
  }

  function mark({pane, links}, current) {
    links.forEach((link, i) => {
      if (i === current) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      link.tabIndex = i === Math.max(current, 0) ? 0 : -1;  // one stop of the Tab key for the whole list
    });
    if (current < 0) return;
    const top = links[current].offsetTop;
    if (top < pane.scrollTop + 40 || top > pane.scrollTop + pane.clientHeight - 40)
      pane.scrollTop = top - pane.clientHeight / 2;
  }

  const row = (href, name, score, part) =>
    element("a", {href, style: share(part)}, text("span", name), text("span", score, {class: "score"}));

  function layersList(result) {
    return list("Mean UnitMem of layers", result.layers.map(layer => {
      const mean = layer.score.slice(0, layer.alive).reduce((sum, score) => sum + score, 0) / layer.alive;
      return row(address(result, layer.name), layer.name, layer.alive ? number(mean) : "all dead", mean);
    }));
  }

  function unitsList(result, layer) {
    return list(`UnitMem of ${plural(layer.unit.length, "unit")}`, layer.unit.map((unit, i) => {
      const score = i < layer.alive ? number(layer.score[i]) : "dead";
      return row(address(result, layer.name, unit), `unit ${unit}`, score, layer.score[i]);
    }));
  }

  // ---- the whole

  const results = element("div", {class: "results"});
  const panes = element("div", {class: "panes"});
  let shown = {}, layers, units;

  function show() {
    const state = parse(location.hash) ?? (shown.result ? null : {result: data.results[0]});
    if (!state) return false;
    if (state.image !== undefined && shown.result === state.result) state.layer = shown.layer;
    if (state.result !== shown.result) {
      layers = layersList(state.result);
      units = null;
      if (data.results.length > 1) results.replaceChildren(...data.results.map(result => element("a",
        {href: address(result), "aria-current": result === state.result ? "true" : null}, result.name)));
    }
    if (!units || state.layer !== shown.layer || state.result !== shown.result)
      units = state.layer ? unitsList(state.result, state.layer) : list("Units: choose a layer", []);
    const what = {class: "pane detail", role: "region", "aria-label": "what was chosen"};
    const right = element("div", what, ...detail(state));
    if (panes.children[0] !== layers.pane) panes.replaceChildren(layers.pane, units.pane, right);
    else {
      if (panes.children[1] !== units.pane) panes.children[1].replaceWith(units.pane);
      panes.children[2].replaceWith(right);
    }
    mark(layers, state.layer ? state.result.layers.indexOf(state.layer) : -1);
    mark(units, state.row ?? -1);
    shown = state;
    return true;
  }

  root.append(results, panes);
  show();
  addEventListener("load", () => { if (parse(location.hash)) root.scrollIntoView(); });  // by then figures have a size
  addEventListener("hashchange", () => {
    if (!parse(location.hash)) return;
    show();
    const {top, bottom} = root.getBoundingClientRect();
    if (top > innerHeight || bottom < 0) root.scrollIntoView();
  });
})();
