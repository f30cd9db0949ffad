// The weighted fusion of `fusion/weighted.py` in a browser, from logits in 256 levels that `static.py` packed.

const MIDDLE = 128; // level v is the logit (v + 0.5 - MIDDLE) / steps
const LARGEST_LOGIT = 16; // larger logits are clipped before they are averaged, as in `fusion/search.py`
const STEPS = 10; // of each weight on the map

const sigmoid = (value) => 1 / (1 + Math.exp(-value));

async function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Levels of N images of S x S pixels, each stored as its difference from what its left and upper neighbours predict:
// the median of left, above, and left + above - the one between them (LOCO-I; Weinberger et al. 2000, equation 1).
function undone(levels, side) {
  for (let start = 0; start < levels.length; start += side * side) {
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const at = start + row * side + column;
        const left = column ? levels[at - 1] : 0;
        const above = row ? levels[at - side] : 0;
        const between = row && column ? levels[at - side - 1] : 0;
        const low = Math.min(left, above), high = Math.max(left, above);
        levels[at] += Math.max(low, Math.min(high, left + above - between));
      }
    }
  }
  return levels;
}

function unpacked(bits, count) {
  return Uint8Array.from({ length: count }, (_, number) => (bits[number >> 3] >> (7 - (number & 7))) & 1);
}

class WeightedFusion {
  constructor(data, levels, truth) {
    Object.assign(this, { data, levels, truth, area: data.side ** 2, meanOf: "probabilities", temperature: 1, threshold: 0.5 });
    this.weights = data.members.map(() => 1 / data.members.length);
  }

  // The others share the rest in proportion to their weights, or equally where those are all 0.
  move(member, weight) {
    const others = this.weights.map((value, number) => (number === member ? 0 : value));
    const total = others.reduce((sum, value) => sum + value, 0);
    const count = others.length - 1;
    if (!count) return;
    this.weights = others.map((value, number) =>
      number === member ? weight : (1 - weight) * (total > 0 ? value / total : 1 / count));
  }

  // Each member's contribution to the mean, by level, and the value above which the mean is foreground.
  tables(weights) {
    const tables = this.data.members.map(({ steps }, member) => Float64Array.from({ length: 2 * MIDDLE }, (_, level) => {
      const scaled = (level + 0.5 - MIDDLE) / steps / this.temperature;
      const clipped = Math.max(-LARGEST_LOGIT, Math.min(LARGEST_LOGIT, scaled));
      return weights[member] * (this.meanOf === "logits" ? clipped : sigmoid(scaled));
    }));
    const cut = this.meanOf === "logits" ? Math.log(this.threshold / (1 - this.threshold)) : this.threshold;
    return { tables, cut };
  }

  // One member's probabilities of an image, at the current temperature.
  probabilities(member, image) {
    const { steps } = this.data.members[member];
    const levels = this.levels[member].subarray(image * this.area, (image + 1) * this.area);
    return Float64Array.from(levels, (level) => sigmoid((level + 0.5 - MIDDLE) / steps / this.temperature));
  }

  // Foreground of an image, 1 or 0 for each pixel.
  mask(image, weights = this.weights) {
    const { tables, cut } = this.tables(weights);
    return this.#masked(image, tables, cut);
  }

  #masked(image, tables, cut) {
    const means = new Float64Array(this.area), start = image * this.area;
    tables.forEach((table, member) => {
      const levels = this.levels[member];
      for (let pixel = 0; pixel < this.area; pixel++) means[pixel] += table[levels[start + pixel]];
    });
    const found = new Uint8Array(this.area);
    for (let pixel = 0; pixel < this.area; pixel++) found[pixel] = means[pixel] > cut;
    return found;
  }

  // Dice of each image.
  dice(weights = this.weights) {
    const { tables, cut } = this.tables(weights);
    return this.data.images.map((_, image) => this.#overlap(image, this.#masked(image, tables, cut)));
  }

  diceOf(image, weights) {
    return this.#overlap(image, this.mask(image, weights));
  }

  // Dice of a mask; two empty masks count 1.
  #overlap(image, mask) {
    const start = image * this.area;
    let predicted = 0, foreground = 0, shared = 0;
    for (let pixel = 0; pixel < this.area; pixel++) {
      const truth = this.truth[start + pixel];
      predicted += mask[pixel];
      foreground += truth;
      shared += mask[pixel] & truth;
    }
    return predicted + foreground ? (2 * shared) / (predicted + foreground) : 1;
  }
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// All weights of `members` members in steps of 1 / STEPS.
function simplex(members, rest = STEPS) {
  if (members === 1) return [[rest / STEPS]];
  const points = [];
  for (let first = 0; first <= rest; first++) {
    for (const other of simplex(members - 1, rest - first)) points.push([first / STEPS, ...other]);
  }
  return points;
}
