// A reader: vectors as a picture, last events and what they did to the list, the list with its reasons, clicks.

import { $, h, s, put, number, span, percent, clock } from './dom.js';

// further sources of a list come under their own names
const LAYERS = { counts: 'others went on', taste: 'taste', popularity: 'popular', exploration: 'to learn about it' };
const DONE = { click: 'opened', like: 'liked', save: 'saved', skip: 'skipped', hide: 'hid', dwell: 'read', complete: 'finished', impression: 'was shown', share: 'shared', follow: 'followed', report: 'reported', undo: 'took back' };

export class Reader {
  constructor(look) {
    this.look = look;
    this.csrf = null;
    this.before = null;
    this.body = $('reader-body');
    $('reader-form').addEventListener('submit', (event) => {
      event.preventDefault();
      const name = $('reader-name').value.trim();
      if (name) this.look(name);
    });
    this.empty('Choose a reader to see vectors, last events, and the list with its reasons. Whoever clicked last stands to the right.');
  }

  empty(words) {
    put(this.body, h('p', { class: 'empty' }, words));
    this.built = null;
  }

  recent(names, current) {
    const key = names.join('\n') + current;
    const soon = this.recentKey && performance.now() - this.recentAt < 5000; // buttons do not run away
    if (key === this.recentKey || soon || $('reader-recent').contains(document.activeElement)) return;
    this.recentKey = key;
    this.recentAt = performance.now();
    put($('reader-names'), names.map((name) => h('option', { value: name })));
    put(
      $('reader-recent'),
      names.slice(0, 6).map((name) => h('button', { type: 'button', class: 'chip', 'aria-pressed': String(name === current), onclick: () => this.look(name) }, name)),
    );
  }

  chosen(name) {
    this.user = name;
    this.before = null;
    $('reader-name').value = name;
    this.empty(`Looking at ${name} …`);
  }

  show(picture) {
    if (picture.user !== this.user) return;
    if (picture.state === 'unknown') return this.empty(`Nothing is known about ${picture.user}: no event was seen, or all was forgotten.`);
    if (picture.state === 'elsewhere') return this.empty(`${picture.user} lies in partition ${picture.partition}, whose owner does not answer at this moment.`);
    const title = (item) => (item === null ? 'an item seen long ago' : (picture.titles[item] ?? item));
    this.build();
    put(this.parts.about, `partition ${picture.partition} · offset ${number(picture.fence)} · newest event ${clock(picture.at)}`);
    put(this.parts.bank, this.bank(picture.bank));
    put(this.parts.events, picture.events.map((event) => h('li', {}, h('time', {}, clock(event.at)), ' ', h('b', {}, DONE[event.kind] ?? event.kind), ' ', title(event.item))));
    put(
      this.parts.moves,
      picture.moves.length
        ? picture.moves.slice(0, 6).map((move) => this.move(move, title))
        : h('li', { class: 'muted' }, 'The next event will show here how it moves the list.'),
    );
    this.list(picture, title);
  }

  build() {
    if (this.built === this.user) return;
    this.built = this.user;
    const part = (tag, attributes) => h(tag, attributes ?? {});
    this.parts = {
      about: part('p', { class: 'muted' }),
      bank: part('div'),
      events: part('ol', { class: 'events' }),
      moves: part('ol', { class: 'moves' }),
      list: part('ol', { class: 'list' }),
    };
    put(
      this.body,
      h(
        'div',
        { class: 'reader' },
        h(
          'div',
          {},
          h('h3', {}, 'Taste, by how fast it is forgotten'),
          this.parts.bank,
          this.parts.about,
          h('h3', {}, 'What moved the list'),
          this.parts.moves,
          h('h3', {}, 'Last events'),
          this.parts.events,
        ),
        h(
          'div',
          {},
          h('div', { class: 'listhead' }, h('h3', {}, 'The list now'), h('p', { class: 'legend' }, Object.entries(LAYERS).map(([layer, words]) => h('span', { 'data-tone': layer }, h('span', { class: 'dot' }), words)))),
          this.parts.list,
        ),
      ),
    );
  }

  bank(bank) {
    const dim = bank[0]?.vector.length ?? 0;
    const [cell, left, row] = [7, 64, 26];
    const most = Math.max(0.05, ...bank.flatMap((one) => one.vector.map(Math.abs)));
    const picture = s('svg', {
      class: 'bank',
      viewBox: `0 0 ${left + dim * cell + 56} ${bank.length * row}`,
      role: 'img',
      'aria-label': `${bank.length} vectors of ${dim} numbers. ${bank.map((one) => `${span(one.half_life_s)}: weight ${number(one.net, 2)}`).join('; ')}.`,
    });
    bank.forEach((one, n) => {
      picture.append(s('text', { x: 0, y: n * row + 16 }, span(one.half_life_s)));
      one.vector.forEach((value, column) => {
        const tile = s('rect', { x: left + column * cell, y: n * row + 2, width: cell - 1, height: row - 6, rx: 1, class: value < 0 ? 'minus' : 'plus' });
        tile.style.opacity = one.net === 0 && one.gross === 0 ? '0.06' : String(0.08 + 0.92 * (Math.abs(value) / most));
        picture.append(tile);
      });
      picture.append(s('text', { x: left + dim * cell + 54, y: n * row + 16, 'text-anchor': 'end' }, number(one.net, 1)));
    });
    return picture;
  }

  move(move, title) {
    const did = [];
    if (move.came.length) {
      const more = move.came.length > 2 ? ` and ${move.came.length - 2} more` : '';
      did.push(`brought in ${move.came.slice(0, 2).map((item) => `“${title(item)}”`).join(', ')}${more}`);
    }
    if (move.up) did.push(`${move.came.length ? '' : 'moved '}${number(move.up)} up`);
    if (!did.length) did.push('changed scores alone');
    return h('li', {}, h('time', {}, clock(move.at)), ' ', h('b', {}, DONE[move.kind] ?? move.kind), ` “${title(move.item)}” → ${did.join(', ')}`);
  }

  list(picture, title) {
    const before = this.before ?? picture.list.map((one) => one.item);
    const focus = document.activeElement?.dataset?.key;
    put(
      this.parts.list,
      picture.list.map((one, place) => {
        const was = before.indexOf(one.item);
        const moved = was < 0 ? h('span', { class: 'moved new' }, 'new') : was > place ? h('span', { class: 'moved up' }, `↑ ${was - place}`) : was < place ? h('span', { class: 'moved' }, `↓ ${place - was}`) : h('span', { class: 'moved' });
        const why = picture.explain[place];
        return h(
          'li',
          { class: was < 0 ? 'came' : null },
          h('span', { class: 'rank' }, String(place + 1)),
          h('div', { class: 'what' }, h('b', {}, title(one.item)), h('span', { class: 'why' }, this.reasons(one.reasons, title)), this.stack(why)),
          moved,
          this.csrf ? this.buttons(picture.user, one.item, title(one.item)) : null,
        );
      }),
    );
    if (!picture.list.length) put(this.parts.list, h('li', { class: 'empty' }, 'Nothing can be listed yet: no item has been learnt.'));
    this.before = picture.list.map((one) => one.item);
    if (focus) [...this.parts.list.querySelectorAll('button')].find((button) => button.dataset.key === focus)?.focus();
  }

  reasons(reasons, title) {
    const words = reasons.filter((reason) => Math.abs(reason.share) >= 0.005).map((reason) => {
      const share = percent(reason.share);
      if (reason.type === 'after') return `after “${title(reason.because)}” ${share}`;
      return `${{ history: 'earlier events', taste: 'taste', popularity: 'popular', exploration: 'to learn about it' }[reason.type] ?? reason.type} ${share}`;
    });
    return words.join(' · ') || 'no reason but its place';
  }

  stack(why) {
    const bar = h('span', { class: 'stack', 'aria-hidden': 'true' });
    const parts = Object.entries(why?.layers ?? {}).filter(([, value]) => value > 0);
    const whole = parts.reduce((total, [, value]) => total + value, 0);
    for (const [layer, value] of parts) {
      const part = h('span', { 'data-tone': layer });
      part.style.width = `${(100 * value) / (whole || 1)}%`;
      bar.append(part);
    }
    return bar;
  }

  buttons(user, item, title) {
    const one = (kind, words) => h('button', { type: 'button', class: 'small', 'data-key': `${kind} ${item}`, 'aria-label': `${words} “${title}” as ${user}`, onclick: (event) => this.click(event.currentTarget, user, item, kind, title) }, words);
    return h('span', { class: 'acts' }, one('click', 'Open'), one('like', 'Like'), one('hide', 'Hide'));
  }

  async click(button, user, item, kind, title) {
    button.disabled = true;
    try {
      const answer = await fetch('/page/click', { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-Headrace-Csrf': this.csrf }, body: JSON.stringify({ user, item, kind }) });
      const words = answer.ok ? `${user} ${DONE[kind]} “${title}”` : (await answer.json()).detail;
      $('reader-said').textContent = words;
    } catch {
      $('reader-said').textContent = 'the worker does not answer';
    } finally {
      button.disabled = false;
    }
  }
}
