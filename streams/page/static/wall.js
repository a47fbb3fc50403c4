// The wall of labels: pictures with tags, recordings whose words seek, moods over time.

import { $, h, s, put, number, percent, clock } from './dom.js';

const MOST = { tag: 6, transcribe: 4, sentiment: 5 };
const MOODS = 80;
const REMEMBERED = 500;
const WIDTH = 320;

export class Wall {
  constructor() {
    this.cards = { tag: [], transcribe: [], sentiment: [] };
    this.moods = [];
    this.ids = new Set();
    this.other = {};
    this.pictures = h('div', { class: 'pictures' });
    this.recordings = h('div', { class: 'recordings' });
    this.texts = h('ol', { class: 'texts' });
    this.mood = s('svg', { class: 'mood', viewBox: `0 0 ${WIDTH} 92`, role: 'img', 'aria-label': 'Mood of texts: none yet.' });
    this.others = h('ul', { class: 'others' });
    this.empty = h('p', { class: 'empty' }, 'No label yet. They appear here as soon as pictures, recordings or texts have been looked at.');
    this.columns = h(
      'div',
      { class: 'wall' },
      h('div', {}, h('h3', {}, 'Pictures'), this.pictures),
      h('div', {}, h('h3', {}, 'Recordings'), this.recordings),
      h('div', {}, h('h3', {}, 'Mood of texts'), this.mood, this.texts),
    );
    put($('wall'), this.empty);
  }

  reset() {
    for (const cards of Object.values(this.cards)) cards.length = 0;
    this.moods.length = 0;
    this.ids.clear();
    put(this.pictures);
    put(this.recordings);
    put(this.texts);
    put($('wall'), this.empty);
  }

  /** Labels, oldest first. */
  add(given) {
    // what was in the first message may come again in the next one
    const labels = given.filter((label) => !this.ids.has(label.id));
    if (!labels.length) return;
    for (const label of labels) this.ids.add(label.id);
    for (const id of this.ids) {
      if (this.ids.size <= REMEMBERED) break;
      this.ids.delete(id);
    }
    if (this.empty.isConnected) put($('wall'), this.columns, this.others);
    const moods = this.moods.length;
    for (const label of labels) {
      if (label.task === 'tag') this.card('tag', this.pictures, label, picture(label));
      else if (label.task === 'transcribe') this.card('transcribe', this.recordings, label, recording(label));
      else if (label.task === 'sentiment') {
        this.moods.push(label);
        this.card('sentiment', this.texts, label, line(label));
      } else {
        this.other[label.task] = (this.other[label.task] ?? 0) + 1;
        put(this.others, Object.entries(this.other).map(([task, count]) => h('li', {}, `${task}: ${number(count)} more labels`)));
      }
    }
    while (this.moods.length > MOODS) this.moods.shift();
    if (this.moods.length !== moods || moods === MOODS) this.drawMoods();
  }

  card(task, column, label, element) {
    const cards = this.cards[task];
    column.prepend(element);
    cards.unshift(element);
    while (cards.length > MOST[task]) {
      // what somebody listens to, or stands on with the keyboard, stays
      const free = cards.findLastIndex((card) => !card.contains(document.activeElement) && !playing(card));
      if (free < 1) break;
      cards.splice(free, 1)[0].remove();
    }
  }

  drawMoods() {
    const y = (value) => 42 - 34 * value;
    const x = (place) => 6 + ((WIDTH - 70) * (place + MOODS - this.moods.length)) / (MOODS - 1);
    const parts = [1, 0, -1].flatMap((value) => [
      s('line', { class: 'grid', x1: 0, x2: WIDTH - 56, y1: y(value), y2: y(value) }),
      s('text', { class: 'axis', x: WIDTH, y: y(value) + 4, 'text-anchor': 'end' }, { 1: 'positive', 0: 'neutral', '-1': 'negative' }[value]),
    ]);
    let mean = 0;
    let path = '';
    this.moods.forEach((label, place) => {
      const value = mood(label);
      mean = place === 0 ? value : mean * 0.85 + value * 0.15;
      path += `${path ? 'L' : 'M'}${x(place).toFixed(1)} ${y(mean).toFixed(1)}`;
      parts.push(s('circle', { class: value < 0 ? 'minus' : 'plus', cx: x(place), cy: y(value), r: 2.6 }));
    });
    parts.push(s('path', { class: 'line', 'data-tone': 'one', d: path }));
    parts.push(s('text', { class: 'axis', x: 0, y: 88 }, `last ${this.moods.length} texts, line: running mean`));
    put(this.mood, parts);
    this.mood.setAttribute('aria-label', `Mood of the last ${this.moods.length} texts, from -1 to 1: running mean ${number(mean, 2)}.`);
  }
}

const mood = (label) => (label.value === 'negative' ? -1 : label.value === 'positive' ? 1 : 0) * (label.score ?? 1);
const playing = (card) => [...card.querySelectorAll('audio')].some((audio) => !audio.paused);
const source = (label) => `/page/media/${encodeURIComponent(label.id)}`;
const from = (label) => h('span', { class: 'from', title: `${label.model}, revision ${label.revision}` }, `${label.asset} · ${clock(label.at)}`);

function words(value) {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) {
    return value.map((one) => {
      const [name, score] = Object.values(one);
      return { name: String(name), score: typeof score === 'number' ? score : (Object.values(one).find((v) => typeof v === 'number') ?? null) };
    });
  }
  if (typeof value === 'object') return Object.entries(value).map(([name, score]) => ({ name, score: typeof score === 'number' ? score : null }));
  return [{ name: String(value), score: null }];
}

function picture(label) {
  const tags = words(label.value).slice(0, 3);
  const image = h('img', { src: source(label), alt: tags.map((tag) => tag.name).join(', ') || label.asset, loading: 'lazy' });
  image.addEventListener('error', () => image.replaceWith(h('span', { class: 'gone' }, 'no longer there')), { once: true });
  return h('figure', { class: 'picture' }, image, h('figcaption', {}, h('span', { class: 'tags' }, tags.map((tag) => h('span', { class: 'tag' }, tag.name, tag.score === null ? null : h('small', {}, ` ${percent(tag.score)}`)))), from(label)));
}

function recording(label) {
  const audio = h('audio', { src: source(label), controls: true, preload: 'none', 'aria-label': `Recording ${label.asset}` });
  const spoken = [];
  for (const [start, end, value] of label.spans.length ? label.spans : [[0, 0, String(label.value ?? '')]]) {
    // within a span words are spread by their length
    const parts = value.split(/\s+/).filter(Boolean);
    const whole = parts.reduce((total, part) => total + part.length + 1, 0);
    let passed = 0;
    for (const part of parts) {
      const at = start + ((end - start) * passed) / (whole || 1);
      passed += part.length + 1;
      spoken.push({ at, until: start + ((end - start) * passed) / (whole || 1), part });
    }
  }
  const buttons = spoken.map(({ at, part }) =>
    h('button', { type: 'button', class: 'word', 'data-at': at.toFixed(2), title: `from ${number(at, 1)} s`, onclick: () => seek(audio, at) }, part),
  );
  audio.addEventListener('timeupdate', () => {
    buttons.forEach((button, n) => button.classList.toggle('now', !audio.paused && audio.currentTime >= spoken[n].at && audio.currentTime < spoken[n].until));
  });
  return h('article', { class: 'recording' }, audio, h('p', { class: 'spoken' }, buttons.length ? buttons : h('span', { class: 'muted' }, '(nothing was said)')), from(label));
}

function seek(audio, at) {
  const go = () => {
    audio.currentTime = at;
    audio.play().catch(() => {});
  };
  if (audio.readyState > 0) go();
  else {
    audio.addEventListener('loadedmetadata', go, { once: true });
    audio.preload = 'auto';
    audio.load();
  }
}

function line(label) {
  const said = h('q', {}, '…');
  fetch(source(label))
    .then((answer) => (answer.ok && answer.headers.get('Content-Type')?.startsWith('text/plain') ? answer.text() : ''))
    .then((text) => {
      said.textContent = text ? (text.length > 140 ? `${text.slice(0, 139)}…` : text) : label.asset;
    })
    .catch(() => {
      said.textContent = label.asset;
    });
  return h('li', {}, h('span', { class: `verdict ${mood(label) < 0 ? 'minus' : 'plus'}` }, `${label.value} ${percent(label.score)}`), said);
}
