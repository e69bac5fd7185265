// What was changed and can be undone; views that are kept.
import { h, wishes } from "./dom.js";

const MOST = 100;
const REST = 350; // ms without a change, after which it counts as one

/** Undo and redo of what is seen (level, colours, camera, layers, cross, modification) and of the settings typed. */
export function changes(ctx) {
  let past = [];
  let future = [];
  let last = null;
  let timer = 0;
  let restoring = false;
  const tell = () => ctx.emit("history", past.length, future.length);
  function record() {
    clearTimeout(timer);
    timer = 0;
    if (ctx.closed) return;
    const now = JSON.stringify({ ...ctx.state(), settings: ctx.settings?.() });
    if (last !== null && now !== last && !restoring) {
      past = [...past.slice(1 - MOST), last];
      future = [];
    }
    restoring = false;
    last = now;
    tell();
  }
  function changed() {
    clearTimeout(timer);
    timer = setTimeout(record, REST);
  }
  function step(from, to) {
    if (timer) record();
    if (!from().length) return;
    to().push(last);
    last = from().pop();
    restoring = true;
    ctx.restore(JSON.parse(last));
    changed();
    tell();
  }
  return {
    changed,
    undo: () => step(() => past, () => future),
    redo: () => step(() => future, () => past),
    clear() { [past, future, last] = [[], [], null]; changed(); },
  };
}

/** Views of a map that this browser keeps, by number; a click brings one back. */
export function keptViews(ctx) {
  const name = `views ${ctx.scene.title}`;
  const made = h("span.views", { role: "group", "aria-label": "Kept views" });
  const draw = () => {
    const kept = wishes.get(name, []);
    const view = (state, i) => h("span.inline", {}, h("button", { title: "Show this view again", onclick: () => ctx.restore(state) }, `${i + 1}`),
      h("button.plain", { title: `Forget view ${i + 1}`, "aria-label": `Forget view ${i + 1}`, onclick: () => { wishes.set(name, kept.filter((_, k) => k !== i)); draw(); } }, "×"));
    made.replaceChildren("Views ", ...kept.map(view), h("button", { title: "Keep this view in this browser", onclick: () => { wishes.set(name, [...kept, ctx.state()]); draw(); } }, "Keep"));
  };
  draw();
  return made;
}
