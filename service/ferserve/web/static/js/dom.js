/**
 * Finds an element of the page that must be there.
 *
 * @template {Element} [T=HTMLElement]
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {T}
 */
export function find(selector, root = document) {
  const found = root.querySelector(selector);
  if (!found) throw new Error(`the page has no ${selector}`);
  return /** @type {T} */ (found);
}

/**
 * Makes an element. Text is text, never markup.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * Makes a list hold exactly this many elements, keeping those that are there.
 *
 * @param {Element} list
 * @param {number} count
 * @param {() => Element} makeOne
 * @returns {Element[]}
 */
export function keep(list, count, makeOne) {
  while (list.children.length > count) list.lastElementChild?.remove();
  while (list.children.length < count) list.append(makeOne());
  return [...list.children];
}

/** @param {number} share 0..1 */
export function percent(share) {
  return `${Math.round(100 * share)} %`;
}
