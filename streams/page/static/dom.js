// Making elements. Text is only ever set as text: nothing that came over the wire is read as markup.

const SVG = 'http://www.w3.org/2000/svg';

export const $ = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Replace what is in an element, unless it would be the same. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

export function number(value, digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  const shown = Number.isInteger(value) ? value : Number(value.toFixed(Math.abs(value) >= 100 ? 0 : digits));
  return shown.toLocaleString('en-US', { maximumFractionDigits: digits });
}

export function seconds(value) {
  if (value === null || value === undefined) return '–';
  if (value < 1) return `${number(value * 1000, value < 0.01 ? 1 : 0)} ms`;
  if (value < 120) return `${number(value, value < 10 ? 1 : 0)} s`;
  if (value < 7200) return `${number(value / 60, 0)} min`;
  return value < 172800 ? `${number(value / 3600, 0)} h` : `${number(value / 86400, 0)} days`;
}

/** A half-life in words: a minute, an hour, a day. */
export function span(value) {
  for (const [unit, name] of [[86400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']]) {
    if (value >= unit) return `${number(value / unit)} ${name}${value === unit ? '' : 's'}`;
  }
  return seconds(value);
}

export const percent = (value) => (value === null || value === undefined ? '–' : `${number(value * 100, 0)} %`);
export const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB');

/** The sum of all samples of a metric among `{name{labels}: value}`. */
export function sum(numbers, metric) {
  let total = 0;
  for (const [name, value] of Object.entries(numbers)) {
    if (name === metric || name.startsWith(`${metric}{`)) total += value;
  }
  return total;
}

export function labelsOf(name) {
  const found = {};
  for (const [, key, value] of name.matchAll(/(\w+)="([^"]*)"/g)) found[key] = value;
  return found;
}
