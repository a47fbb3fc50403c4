// Lines over the last five minutes. A chart is one SVG, drawn anew with each tick.

import { h, s, put, text } from './dom.js';

const HEIGHT = 96;
const KEPT = 300;

export class Chart {
  constructor({ title, shows, format, top = null }) {
    this.shows = shows; // [{series, name, tone}]
    this.format = format;
    this.top = top;
    this.title = title;
    this.svg = s('svg', { class: 'chart', height: HEIGHT, role: 'img' });
    this.legend = h('p', { class: 'legend' });
    this.element = h('figure', { class: 'card' }, h('figcaption', {}, h('h3', {}, title), this.legend), this.svg);
    this.values = shows.map(() => h('b', {}, '–'));
    put(
      this.legend,
      shows.map((one, n) =>
        h('span', { 'data-tone': one.tone }, shows.length > 1 || one.name ? h('span', { class: 'dot' }) : null, one.name ? `${one.name} ` : '', this.values[n]),
      ),
    );
  }

  draw(history) {
    const width = Math.max(160, Math.round(this.svg.clientWidth || 320));
    const lines = this.shows.map((one) => history[one.series] ?? []);
    const most = Math.max(this.top ?? 0, ...lines.flat().filter((value) => value !== null && value !== undefined));
    const high = this.top ?? nice(most);
    const right = width - 40;
    const y = (value) => 8 + (HEIGHT - 26) * (1 - value / (high || 1));
    this.svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = y(share * high);
      parts.push(s('line', { class: 'grid', x1: 0, x2: right, y1: at, y2: at }));
      if (share !== 0.5) parts.push(s('text', { class: 'axis', x: width, y: at + 4, 'text-anchor': 'end' }, this.format(share * high)));
    }
    parts.push(s('text', { class: 'axis', x: 0, y: HEIGHT - 3 }, '5 min ago'));
    parts.push(s('text', { class: 'axis', x: right, y: HEIGHT - 3, 'text-anchor': 'end' }, 'now'));
    lines.forEach((line, n) => {
      const x = (place) => right - ((line.length - 1 - place) / (KEPT - 1)) * right;
      const tone = this.shows[n].tone;
      let path = '';
      let start = null;
      let last = null;
      line.forEach((value, place) => {
        if (value === null || value === undefined) {
          last = null;
          return;
        }
        path += `${last === null ? 'M' : 'L'}${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
        start = start ?? place;
        last = place;
      });
      if (!path) return;
      if (n === 0 && last !== null && !path.slice(1).includes('M')) {
        parts.push(s('path', { class: 'area', 'data-tone': tone, d: `${path}L${x(last).toFixed(1)} ${y(0)}L${x(start).toFixed(1)} ${y(0)}Z` }));
      }
      parts.push(s('path', { class: 'line', 'data-tone': tone, d: path }));
      if (last !== null) parts.push(s('circle', { class: 'tip', 'data-tone': tone, cx: x(last), cy: y(line[last]), r: 2.5 }));
    });
    put(this.svg, parts);
    lines.forEach((line, n) => text(this.values[n], this.format(line.at(-1) ?? null)));
    this.svg.setAttribute(
      'aria-label',
      `${this.title}, last five minutes. ${this.shows.map((one, n) => `${one.name || 'now'} ${this.format(lines[n].at(-1) ?? null)}`).join(', ')}; at most ${this.format(most)}.`,
    );
  }
}

function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
