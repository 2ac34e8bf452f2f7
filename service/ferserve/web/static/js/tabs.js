import { find } from "./dom.js";

/**
 * Tabs as the ARIA Authoring Practices describe them: arrows, Home and End move and choose.
 *
 * @param {HTMLElement} list
 * @param {(id: string) => void} onChoose Is given the id of the chosen tab.
 */
export function setUpTabs(list, onChoose) {
  const tabs = /** @type {HTMLElement[]} */ ([...list.querySelectorAll("[role=tab]")]);

  /** @param {HTMLElement} chosen */
  function choose(chosen) {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      find(`#${tab.getAttribute("aria-controls")}`).hidden = !selected;
    }
    onChoose(chosen.id);
  }

  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const target = {
        ArrowRight: tabs[(index + 1) % tabs.length],
        ArrowLeft: tabs[(index + tabs.length - 1) % tabs.length],
        Home: tabs[0],
        End: tabs[tabs.length - 1],
      }[key];
      if (!target) return;
      target.focus();
      choose(target);
    });
  }
}
