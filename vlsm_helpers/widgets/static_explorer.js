// The fusion explorer of a page without a kernel: what the browser shows of a `WeightedFusion`.
// `explore(root)` starts it in the element `root`, which holds the data as JSON. It asks nothing of any server.

const SCALE = 3; // canvas pixels for each pixel of the masks

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function slider(text, { min, max, step, value }, shown, changed) {
  const input = element("input", { type: "range", min, max, step, value });
  const output = element("output");
  const show = () => {
    output.value = shown(Number(input.value));
    input.setAttribute("aria-valuetext", output.value);
  };
  input.addEventListener("input", () => { changed(Number(input.value)); show(); });
  show();
  const label = element("label", {}, element("span", {}, text), input, output);
  return { label, set(next) { input.value = next; show(); } };
}

function choice(text, options, changed) {
  const entries = options.map(([label, value]) => element("option", { value }, label));
  const select = element("select", {}, ...entries);
  select.addEventListener("change", () => changed(select.value));
  return element("label", { class: "choice" }, element("span", {}, text), select);
}

// The borders between a mask and what is outside, as lines on a canvas.
function outline(context, mask, start, side, colour) {
  const inside = (row, column) =>
    row >= 0 && column >= 0 && row < side && column < side && mask[start + row * side + column] === 1;
  const line = (column, row, right, down) => {
    context.moveTo(column * SCALE, row * SCALE);
    context.lineTo((column + right) * SCALE, (row + down) * SCALE);
  };
  context.beginPath();
  for (let row = 0; row <= side; row++) {
    for (let column = 0; column <= side; column++) {
      const here = inside(row, column);
      if (here !== inside(row - 1, column)) line(column, row, 1, 0);
      if (here !== inside(row, column - 1)) line(column, row, 0, 1);
    }
  }
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.stroke();
}

class View {
  constructor(root, fusion, pictures) {
    Object.assign(this, { root, fusion, pictures, data: fusion.data, image: 0, map: null, mapping: 0 });
    const two = (value) => value.toFixed(2);
    this.sliders = this.data.members.map(({ name }, member) =>
      slider(name, { min: 0, max: 1, step: 0.01, value: fusion.weights[member] }, two, (weight) => this.move(member, weight)));
    const set = (setting) => (value) => { fusion[setting] = value; this.updateAll(); };
    const temperature = slider("temperature", { min: -4, max: 4, step: 0.25, value: 0 }, (power) => two(2 ** power),
      (power) => set("temperature")(2 ** power));
    const threshold = slider("threshold", { min: 0.01, max: 0.99, step: 0.01, value: 0.5 }, two, set("threshold"));
    const means = [["mean of probabilities", "probabilities"], ["mean of logits", "logits"]];
    const images = this.data.images.map(({ id }, number) => [id, number]);
    const best = element("button", { type: "button" }, "use the best weights");
    const save = element("button", { type: "button" }, "export");
    best.addEventListener("click", () => this.useBest());
    save.addEventListener("click", () => this.save());
    this.canvas = this.newCanvas();
    this.scores = element("table", { "aria-live": "polite" });
    this.members = this.data.members.map(({ name }) => ({ name, canvas: this.newCanvas(), caption: element("figcaption") }));
    this.triangle = this.data.members.length === 3 ? element("canvas", { width: 480, height: 440, role: "img" }) : null;
    root.replaceChildren(
      element("div", { class: "controls" }, ...this.sliders.map(({ label }) => label), temperature.label, threshold.label,
        choice("rule", means, set("meanOf")), element("div", { class: "buttons" }, best, save), ...this.mapParts()),
      element("div", { class: "picture" }, choice("image", images, (value) => this.show(Number(value))),
        this.scores, this.canvas, this.legend()),
      element("div", { class: "members" }, ...this.members.map(({ canvas, caption }) => element("figure", {}, caption, canvas))),
    );
    this.updateAll();
  }

  newCanvas() {
    const size = SCALE * this.data.side;
    return element("canvas", { width: size, height: size, role: "img" });
  }

  legend() {
    const { colours, title } = this.data;
    const key = (colour, text) => element("span", {}, element("span", { style: `color:${colour}` }, "■ "), text + " ");
    return element("p", { class: "facts" }, key(colours.truth, "ground truth"), key(colours.prediction, "prediction"),
      element("br"), title);
  }

  mapParts() {
    if (!this.triangle) return [];
    const [top, left, right] = this.data.members.map(({ name }) => element("span", {}, name));
    this.range = element("span");
    return [element("div", { class: "weights" }, top, this.triangle, element("div", { class: "corners" }, left, right)),
      element("p", { class: "facts" }, this.range, element("br"), "○ current weights, + best weights")];
  }

  show(image) {
    this.image = image;
    this.drawMembers();
    this.update();
  }

  move(member, weight) {
    this.fusion.move(member, weight);
    this.update();
  }

  // What follows the weights.
  update() {
    const dice = this.fusion.dice();
    this.sliders.forEach((one, member) => one.set(this.fusion.weights[member]));
    this.showScores(dice);
    this.drawImage(dice);
    this.drawMap();
  }

  // What follows the other settings: everything.
  updateAll() {
    this.drawMembers();
    this.computeMap();
    this.update();
  }

  showScores(dice) {
    const three = (value) => value.toFixed(3);
    const { single, images, side } = this.data;
    const alone = images.map((image) => image.single);
    const row = (tag, what, fused, other) =>
      element("tr", {}, element(tag, {}, what), element(tag, {}, element("b", {}, fused)), element(tag, {}, other));
    this.scores.replaceChildren(
      row("th", `Dice at ${side} pixels`, "fused", single),
      row("td", "this image", three(dice[this.image]), three(alone[this.image])),
      row("td", `all ${dice.length} images`, three(mean(dice)), three(mean(alone))));
  }

  drawImage(dice) {
    const { side, images, colours } = this.data, size = SCALE * side, context = this.canvas.getContext("2d");
    const mask = this.fusion.mask(this.image);
    context.drawImage(this.pictures[this.image], 0, 0, size, size);
    context.fillStyle = colours.prediction;
    context.globalAlpha = 0.35;
    mask.forEach((foreground, pixel) => {
      if (foreground) context.fillRect((pixel % side) * SCALE, Math.floor(pixel / side) * SCALE, SCALE, SCALE);
    });
    context.globalAlpha = 1;
    outline(context, this.fusion.truth, this.image * side ** 2, side, colours.truth);
    outline(context, mask, 0, side, colours.prediction);
    this.canvas.setAttribute("aria-label",
      `Image ${images[this.image].id} with ground truth and fused prediction, Dice ${dice[this.image].toFixed(3)}`);
  }

  drawMembers() {
    const { side, colours } = this.data, { fusion, image } = this;
    this.members.forEach(({ name, canvas, caption }, member) => {
      const alone = this.data.members.map((_, number) => Number(number === member));
      const context = canvas.getContext("2d"), small = element("canvas", { width: side, height: side });
      const pixels = new ImageData(side, side);
      fusion.probabilities(member, image).forEach((value, pixel) =>
        pixels.data.set([255 * value, 255 * value, 255 * value, 255], 4 * pixel));
      small.getContext("2d").putImageData(pixels, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, SCALE * side, SCALE * side);
      outline(context, fusion.truth, image * side ** 2, side, colours.truth);
      outline(context, fusion.mask(image, alone), 0, side, colours.prediction);
      const text = `${name} ${fusion.diceOf(image, alone).toFixed(2)}`;
      caption.replaceChildren(text);
      canvas.setAttribute("aria-label", `Probability of ${text.replace(" ", ", Dice ")}`);
    });
  }

  // Dice of all weights, a few points at a time, so that the page stays responsive.
  async computeMap() {
    const mine = ++this.mapping, points = simplex(this.data.members.length), dice = [];
    this.map = null;
    for (const point of points) {
      await new Promise((resume) => setTimeout(resume));
      if (mine !== this.mapping) return;
      dice.push(mean(this.fusion.dice(point)));
    }
    const most = Math.max(...dice), squares = (point) => point.reduce((sum, weight) => sum + weight ** 2, 0);
    const ties = points.filter((_, number) => dice[number] >= most - 1e-12);
    this.map = { points, dice, best: ties.sort((one, other) => squares(one) - squares(other))[0] };
    this.drawMap();
  }

  drawMap() {
    this.root.toggleAttribute("aria-busy", !this.map);
    if (!this.triangle) return;
    const context = this.triangle.getContext("2d"), { width, height } = this.triangle, edge = 400;
    const place = ([first, , third]) =>
      [width / 2 + (third + first / 2 - 0.5) * edge, height - 40 - (first * edge * Math.sqrt(3)) / 2];
    context.clearRect(0, 0, width, height);
    if (!this.map) {
      this.range.replaceChildren("computing the Dice of all weights …");
      this.triangle.setAttribute("aria-label", this.range.textContent);
      return;
    }
    const { points, dice, best } = this.map, low = Math.min(...dice), high = Math.max(...dice), { ramp } = this.data.colours;
    points.forEach((point, number) => {
      const [x, y] = place(point), share = (dice[number] - low) / (high - low || 1);
      context.fillStyle = ramp[Math.round(share * (ramp.length - 1))];
      context.beginPath();
      context.arc(x, y, edge / STEPS / 2, 0, 2 * Math.PI);
      context.fill();
    });
    for (const [colour, thick] of [["black", 8], ["white", 4]]) {
      const [x, y] = place(best), [a, b] = place(this.fusion.weights);
      Object.assign(context, { strokeStyle: colour, lineWidth: thick });
      context.beginPath();
      context.moveTo(x - 14, y);
      context.lineTo(x + 14, y);
      context.moveTo(x, y - 14);
      context.lineTo(x, y + 14);
      context.moveTo(a + 14, b);
      context.arc(a, b, 14, 0, 2 * Math.PI);
      context.stroke();
    }
    this.range.replaceChildren(`Dice from ${low.toFixed(3)} (dark) to ${high.toFixed(3)} (bright)`);
    this.triangle.setAttribute("aria-label", `Map of the mean Dice of all weights; ${this.range.textContent}`);
  }

  useBest() {
    if (!this.map) return;
    this.fusion.weights = [...this.map.best];
    this.update();
  }

  // The file that `vlsm evaluate` and `WeightedFusion.load` take.
  save() {
    const { weights, meanOf, temperature, threshold } = this.fusion;
    const named = Object.fromEntries(this.data.members.map(({ name }, member) => [name, weights[member]]));
    const text = JSON.stringify({ weights: named, mean_of: meanOf, temperature, threshold }, null, 2) + "\n";
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    element("a", { href: address, download: "fusion.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
}

async function picture(base64) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${base64}`;
  await image.decode();
  return image;
}

async function explore(root) {
  try {
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const count = data.images.length * data.side ** 2;
    const levels = await Promise.all(data.members.map(async (member) => undone(await inflated(member.levels), data.side)));
    const truth = unpacked(await inflated(data.masks), count);
    const pictures = await Promise.all(data.images.map((image) => picture(image.jpeg)));
    new View(root, new WeightedFusion(data, levels, truth), pictures);
  } catch (error) {
    root.append(`The fusion explorer could not start (${error}). It needs a browser of 2023 or newer.`);
    throw error;
  }
}
