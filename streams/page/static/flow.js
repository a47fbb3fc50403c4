// The flow, drawn from the graph that the worker sends: topics and agents in columns, edges with what passes now.

import { $, h, s, put, number, seconds } from './dom.js';

const COLUMN = 226;
const ROW = 74;
const TOP = 46;
const WIDE = 152;
const HIGH = { agent: 50, topic: 32 };
const WORDS = { ok: 'keeps up', behind: 'a little behind', late: 'far behind', recovering: 'reads its state back', idle: 'no partitions' };

export class Flow {
  constructor(graph) {
    this.graph = graph;
    this.place(graph.nodes);
    this.edges = graph.edges.filter(
      (edge) => !(edge.back && graph.edges.some((other) => other.from === edge.to && other.to === edge.from && !other.back)),
    );
    this.build();
  }

  place(nodes) {
    const columns = [];
    for (const node of nodes) (columns[node.column] ??= []).push(node);
    // what is read stands beside its reader
    const rank = (node) => Math.min(...this.graph.edges.filter((edge) => edge.from === node.id).map((edge) => columns[1].findIndex((one) => one.id === edge.to)));
    if (columns[1]) columns[0]?.sort((a, b) => rank(a) - rank(b));
    const rows = Math.max(1, ...columns.map((column) => column?.length ?? 0));
    this.at = {};
    // beside those who feed them: the mean height of what leads to a node from the left
    const beside = (node) => {
      const heights = this.graph.edges.filter((edge) => edge.to === node.id && this.at[edge.from]).map((edge) => this.at[edge.from].y);
      return heights.length ? heights.reduce((sum, y) => sum + y, 0) / heights.length : 0;
    };
    columns.forEach((column, number_) => {
      const step = (rows * ROW) / column.length;
      if (number_ > 1) column.sort((a, b) => beside(a) - beside(b));
      column.forEach((node, row) => {
        this.at[node.id] = { x: 4 + number_ * COLUMN, y: TOP + (row + 0.5) * step, node };
      });
    });
    this.width = columns.length * COLUMN - (COLUMN - WIDE) + 8;
    this.height = TOP + rows * ROW + 8;
  }

  build() {
    const picture = $('flow-picture');
    picture.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
    picture.setAttribute('width', this.width);
    picture.setAttribute('height', this.height);
    this.lines = this.edges.map((edge) => {
      const d = this.path(edge);
      const line = s('path', { class: edge.back ? 'edge back' : 'edge', d });
      const moving = s('path', { class: 'moving', d });
      const label = s('text', { class: 'rate', 'text-anchor': 'middle', ...this.middle(edge) });
      return { edge, line, moving, label };
    });
    this.boxes = Object.values(this.at).map(({ x, y, node }) => {
      const agent = node.kind === 'agent';
      const high = HIGH[agent ? 'agent' : 'topic'];
      const dot = agent ? s('circle', { class: 'health', cx: 14, cy: 18, r: 4.5 }) : null;
      const below = agent ? s('text', { class: 'below', x: 14, y: 38 }) : null;
      const name = s('text', { class: 'name', x: agent ? 26 : 14, y: agent ? 22 : 21 }, node.name);
      const box = s(
        'g',
        { class: `node ${agent ? 'agent' : 'topic'} ${node.kind}`, transform: `translate(${x} ${y - high / 2})` },
        s('rect', { width: WIDE, height: high, rx: agent ? 10 : 16 }),
        dot,
        name,
        below,
      );
      return { node, box, dot, below };
    });
    put(
      picture,
      this.lines.flatMap(({ line, moving }) => [line, moving]),
      this.boxes.map(({ box }) => box),
      this.lines.map(({ label }) => label),
    );
  }

  path({ from, to, back }) {
    const a = this.at[from];
    const b = this.at[to];
    if (back && a.x - b.x > COLUMN) {
      const [x1, x2] = [a.x + WIDE / 2, b.x + WIDE / 2];
      const high = (place) => place.y - HIGH[place.node.kind === 'agent' ? 'agent' : 'topic'] / 2;
      return `M${x1} ${high(a)}C${x1} ${16},${x1} ${16},${x1 - 60} 16L${x2 + 60} 16C${x2} 16,${x2} 16,${x2} ${high(b)}`;
    }
    if (!back && b.x - a.x > COLUMN) return this.around(a, b);
    const [x1, x2] = back ? [a.x, b.x + WIDE] : [a.x + WIDE, b.x];
    const bend = (x2 - x1) / 2;
    return `M${x1} ${a.y}C${x1 + bend} ${a.y},${x2 - bend} ${b.y},${x2} ${b.y}`;
  }

  // a height between the boxes of the columns that an edge passes, as near to both ends as there is room
  lane(a, b) {
    const passed = Object.values(this.at).filter(({ x }) => x > a.x && x < b.x);
    const free = (y) => passed.every((one) => Math.abs(one.y - y) > HIGH[one.node.kind === 'agent' ? 'agent' : 'topic'] / 2 + 8);
    let [lane, least] = [(a.y + b.y) / 2, Infinity];
    for (let y = TOP; y < this.height; y += 4) {
      const far = Math.abs(y - a.y) + Math.abs(y - b.y);
      if (free(y) && far < least) [lane, least] = [y, far];
    }
    return lane;
  }

  around(a, b) {
    const lane = this.lane(a, b);
    const bend = (COLUMN - WIDE) / 2;
    const [x1, x2, in_, out] = [a.x + WIDE, b.x, a.x + COLUMN, b.x - COLUMN + WIDE];
    return `M${x1} ${a.y}C${x1 + bend} ${a.y},${in_ - bend} ${lane},${in_} ${lane}L${out} ${lane}C${out + bend} ${lane},${x2 - bend} ${b.y},${x2} ${b.y}`;
  }

  middle({ from, to, back }) {
    const a = this.at[from];
    const b = this.at[to];
    if (back && a.x - b.x > COLUMN) return { x: (a.x + b.x + WIDE) / 2, y: 11 };
    if (!back && b.x - a.x > COLUMN) {
      const lane = this.lane(a, b);
      return { x: a.x + COLUMN + WIDE / 2, y: lane > a.y + 12 ? lane + 14 : lane - 5 };
    }
    return { x: (Math.min(a.x, b.x) + WIDE + Math.max(a.x, b.x)) / 2, y: (a.y + b.y) / 2 - 6 };
  }

  rate(edge, rates) {
    const [, from] = split(edge.from);
    const [, to] = split(edge.to);
    if (edge.kind === 'read') return rates[`>${to}`] ?? null;
    if (edge.kind === 'write') return rates[`${from}>${to}`] ?? null;
    return null;
  }

  update({ rates, health }) {
    for (const { edge, line, moving, label } of this.lines) {
      const rate = this.rate(edge, rates);
      const word = edge.kind === 'read' ? health[split(edge.to)[1]]?.word : health[split(edge.from)[1]]?.word;
      line.setAttribute('data-word', edge.kind === 'table' ? 'table' : (word ?? 'idle'));
      line.style.strokeWidth = `${1.5 + Math.min(3.5, Math.log10(1 + (rate ?? 0)))}px`;
      moving.classList.toggle('on', (rate ?? 0) > 0.05);
      label.textContent = edge.kind === 'table' ? 'followed' : rate === null ? '' : `${number(rate, rate < 10 ? 1 : 0)}/s`;
    }
    for (const { node, dot, below } of this.boxes) {
      const now = health[node.name];
      if (!dot || !now) continue;
      dot.setAttribute('data-word', now.word);
      below.textContent = now.word === 'idle' ? 'no partitions' : now.word === 'recovering' ? `${now.open} of ${now.owned} open` : now.lag > 0 ? `lag ${seconds(now.lag_s)} · ${number(now.lag)}` : `keeps up${now.letters ? ` · ${number(now.letters)} dead` : ''}`;
    }
    put(
      $('flow-rows'),
      this.edges.map((edge) => {
        const [kind, from] = split(edge.from);
        const [, to] = split(edge.to);
        const agent = health[edge.kind === 'read' ? to : from];
        const read = edge.kind === 'read' && agent;
        return h(
          'tr',
          {},
          h('td', {}, `${kind} ${from}`),
          h('td', {}, `${split(edge.to)[0]} ${to}`),
          h('td', { class: 'n' }, number(this.rate(edge, rates))),
          h('td', { class: 'n' }, read ? number(agent.lag) : ''),
          h('td', { class: 'n' }, read ? number(agent.lag_s, 2) : ''),
          h('td', {}, edge.kind === 'table' ? 'followed by every worker' : (WORDS[agent?.word] ?? '')),
        );
      }),
    );
    const words = Object.entries(health).map(([agent, now]) => `${agent} ${WORDS[now.word]}`);
    $('flow-picture').setAttribute('aria-label', `The flow: ${words.join(', ')}. A table follows.`);
  }
}

function split(id) {
  const at = id.indexOf(':');
  return [id.slice(0, at), id.slice(at + 1)];
}
