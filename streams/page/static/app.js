// The page: one stream of events from the worker, and where each part of them is shown.

import { $, h, put, number, seconds, percent, sum, labelsOf, text, clock } from './dom.js';
import { Chart } from './charts.js';
import { Flow } from './flow.js';
import { Reader } from './reader.js';
import { Wall } from './wall.js';

const KEPT = 300;
const state = { numbers: {}, history: { at: [] }, health: {}, rates: {}, chart: {}, letters: [], workers: [], flow: null, charts: [], user: null, stream: null, last: 0 };
const wall = new Wall();
const reader = new Reader(look);

const TILES = [
  ['records applied', 'headrace_applied_total'],
  ['lists published', 'headrace_recommendations_total'],
  ['labels published', 'headrace_labels_total'],
  ['dead letters', 'headrace_dead_letters_total'],
  ['readers in memory', 'headrace_users'],
  ['items known', 'headrace_items'],
];
put($('tiles'), TILES.map(([name, metric]) => h('div', { class: 'tile' }, h('dt', {}, name), h('dd', { class: 'num', 'data-sum': metric }, '0'))));

// -- the stream

function open() {
  state.stream?.close();
  const stream = new EventSource(state.user ? `/events?reader=${encodeURIComponent(state.user)}` : '/events');
  state.stream = stream;
  stream.addEventListener('hello', (event) => hello(JSON.parse(event.data)));
  stream.addEventListener('tick', (event) => tick(JSON.parse(event.data)));
  stream.addEventListener('reader', (event) => reader.show(JSON.parse(event.data)));
  stream.addEventListener('error', () => {
    say('waiting', 'the worker does not answer; trying again');
    // after an error status a browser gives up; the worker may be back soon
    if (stream.readyState === EventSource.CLOSED && stream === state.stream) setTimeout(open, 2000);
  });
}

function look(user) {
  state.user = user;
  const url = new URL(location.href);
  url.searchParams.set('reader', user);
  history.replaceState(null, '', url);
  reader.chosen(user);
  reader.recentKey = null;
  open();
}

function say(word, words) {
  $('state').dataset.word = word;
  text($('state'), words);
}

function hello(all) {
  Object.assign(state, { numbers: all.numbers, history: all.history, health: all.health, rates: all.rates, letters: all.letters, workers: all.workers });
  state.last = all.history.at.at(-1) ?? 0;
  text($('version'), all.version);
  reader.csrf = all.csrf;
  state.flow = new Flow(all.flow);
  build(Object.keys(all.health));
  for (const name of Object.keys(all.history)) state.chart[name] = all.history[name].at(-1) ?? null;
  wall.reset();
  wall.add(all.labels);
  show();
  letters();
  workers(all.readers);
}

function tick(now) {
  Object.assign(state.numbers, now.numbers);
  Object.assign(state, { health: now.health, rates: now.rates, chart: now.chart, workers: now.workers });
  if (now.at > state.last) {
    state.last = now.at;
    const length = state.history.at.length;
    state.history.at.push(now.at);
    for (const [name, value] of Object.entries(now.chart)) {
      const series = (state.history[name] ??= new Array(length).fill(null));
      series.push(value);
    }
    for (const series of Object.values(state.history)) while (series.length > KEPT) series.shift();
  }
  wall.add(now.labels);
  if (now.letters) {
    state.letters = now.letters;
    letters();
  }
  show();
  workers(now.readers);
}

// -- what is shown

function build(agents) {
  const main = agents.includes('clicks') ? 'clicks' : agents[0];
  const shown = agents.filter((agent) => !agent.endsWith('-retry') && agent !== 'privacy');
  const tones = ['one', 'two', 'three', 'four', 'five', 'six'];
  const perAgent = (what) => shown.map((agent, n) => ({ series: `${what}.${agent}`, name: agent, tone: tones[n % tones.length] }));
  const perSecond = (value) => number(value, value !== null && value < 10 ? 1 : 0);
  state.charts = [
    new Chart({ title: 'Records a second', shows: perAgent('rate'), format: perSecond }),
    new Chart({ title: `Latency of ${main}`, shows: [{ series: `p50.${main}`, name: 'p50', tone: 'one' }, { series: `p99.${main}`, name: 'p99', tone: 'two' }], format: seconds }),
    new Chart({ title: 'Lag, in records', shows: perAgent('lag'), format: (value) => number(value, 0) }),
    new Chart({ title: 'Dead letters a second', shows: [{ series: 'letters', name: '', tone: 'bad' }], format: perSecond }),
    new Chart({ title: 'Device busy', shows: [{ series: 'busy', name: '', tone: 'one' }], format: percent, top: 1 }),
    new Chart({ title: 'Padding of batches', shows: [{ series: 'padding', name: '', tone: 'three' }], format: percent, top: 1 }),
  ];
  put($('charts'), state.charts.map((chart) => chart.element));
}

function show() {
  const words = Object.values(state.health).map((one) => one.word);
  const worst = ['late', 'recovering', 'behind', 'ok'].find((word) => words.includes(word)) ?? 'idle';
  const who = Object.keys(state.health).filter((agent) => state.health[agent].word === worst).slice(0, 2).join(', ');
  say(worst, { late: `${who} far behind`, recovering: `${who}: reading state back`, behind: `${who} a little behind`, ok: 'live', idle: 'waiting for partitions' }[worst]);
  state.flow?.update(state);
  for (const chart of state.charts) chart.draw(state.history);
  for (const element of document.querySelectorAll('[data-sum]')) value(element, sum(state.numbers, element.dataset.sum));
  numbers();
  quality();
}

function value(element, number_) {
  element.dataset.value = String(number_);
  text(element, number(number_));
}

const rows = new Map();
function numbers() {
  for (const [name, now] of Object.entries(state.numbers)) {
    let row = rows.get(name);
    if (!row) {
      row = h('td', { class: 'n num', 'data-series': name });
      rows.set(name, row);
      const names = [...rows.keys()].sort();
      const next = rows.get(names[names.indexOf(name) + 1]);
      $('numbers').insertBefore(h('tr', {}, h('td', {}, h('code', {}, name)), row), next?.parentElement ?? null);
    }
    value(row, now);
  }
}

function letters() {
  if (!state.letters.length) return put($('letters-body'), h('p', { class: 'empty' }, 'None among the newest records.'));
  put(
    $('letters-body'),
    h(
      'div',
      { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Dead letters, newest first' },
      h(
        'table',
        {},
        h('thead', {}, h('tr', {}, ['when', 'topic', 'place', 'reason', 'what was wrong', 'send again'].map((name) => h('th', { scope: 'col' }, name)))),
        h(
          'tbody',
          {},
          state.letters.map((letter) =>
            h(
              'tr',
              {},
              h('td', {}, clock(letter.at)),
              h('td', {}, letter.topic),
              h('td', { class: 'n' }, `${letter.origin.partition} · ${letter.origin.offset}`),
              h('td', {}, h('span', { class: 'tag bad' }, letter.reason)),
              h('td', { class: 'said' }, letter.message),
              h('td', {}, copy(`headrace dlq replay --topic ${letter.topic} --reason ${letter.reason}`)),
            ),
          ),
        ),
      ),
    ),
  );
}

function copy(command) {
  const code = h('code', {}, command);
  return h(
    'span',
    { class: 'copy' },
    code,
    h('button', {
      type: 'button',
      class: 'small',
      'aria-label': `Copy: ${command}`,
      onclick: (event) => {
        const button = event.currentTarget;
        navigator.clipboard?.writeText(command).then(() => {
          button.textContent = 'copied';
        }, () => {});
      },
    }, 'copy'),
  );
}

function workers(names) {
  reader.recent(names, state.user);
  const key = JSON.stringify(state.workers);
  if (key === workers.key) return;
  workers.key = key;
  put(
    $('workers-body'),
    h(
      'table',
      {},
      h('thead', {}, h('tr', {}, ['agent', 'worker', 'partitions'].map((name) => h('th', { scope: 'col' }, name)))),
      h(
        'tbody',
        {},
        state.workers.map((row) =>
          h(
            'tr',
            {},
            h('td', {}, row.agent),
            h('td', {}, row.worker, row.here ? h('span', { class: 'tag' }, 'this one') : null),
            h('td', {}, row.partitions.length ? h('span', { class: 'parts' }, row.partitions.map((number_) => h('span', { class: `part${row.closed.includes(number_) ? ' closed' : ''}`, title: row.closed.includes(number_) ? 'its state is being read back' : null }, String(number_)))) : h('span', { class: 'muted' }, 'none')),
          ),
        ),
      ),
    ),
  );
}

function quality() {
  const found = Object.entries(state.numbers)
    .filter(([name]) => name.startsWith('headrace_recall_at_k{'))
    .map(([name, recall]) => ({ layer: labelsOf(name).layer, recall, name }))
    .sort((a, b) => b.recall - a.recall);
  if (!found.length) return put($('quality-body'), h('p', { class: 'empty' }, 'Not measured on this worker yet.'));
  put(
    $('quality-body'),
    h(
      'ol',
      { class: 'bars' },
      found.map(({ layer, recall, name }) => {
        const bar = h('span', { class: 'fill' });
        bar.style.width = `${100 * recall}%`;
        return h('li', {}, h('span', { class: 'layer' }, layer), h('span', { class: 'track' }, bar), h('b', { class: 'num', 'data-value': recall, title: name }, `${number(recall * 100, 1)} %`));
      }),
    ),
  );
}

// -- light and dark

const THEMES = { auto: 'Auto', light: 'Light', dark: 'Dark' };
function theme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  text($('theme'), THEMES[name]);
  $('theme').setAttribute('aria-label', `Colours: ${name === 'auto' ? 'as the system has them' : name}`);
  $('theme').dataset.theme = name;
  try {
    localStorage.setItem('headrace-theme', name);
  } catch {
    // private windows may keep nothing
  }
}
$('theme').addEventListener('click', () => {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf($('theme').dataset.theme) + 1) % names.length]);
});
let kept = 'auto';
try {
  kept = localStorage.getItem('headrace-theme') ?? 'auto';
} catch {
  // as above
}
theme(kept in THEMES ? kept : 'auto');

const asked = new URL(location.href).searchParams.get('reader');
if (asked) {
  state.user = asked;
  reader.chosen(asked);
}
open();
