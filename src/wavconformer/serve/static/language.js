// The page's language: the browser's, or the one that was chosen here.

import { STRINGS } from "./strings.js";

const KEPT = "wavconformer.language";
const wanted =
  localStorage.getItem(KEPT) ?? navigator.languages.map((name) => name.slice(0, 2)).find((name) => STRINGS[name]);
let current = STRINGS[wanted] ? wanted : "en";

/** A string, with its {values} put in. */
export function t(name, values = {}) {
  return STRINGS[current][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

/** What is said of an error: in plain words where its code is known, and as the server put it otherwise. */
export function explain(error) {
  const name = `error.${error.code}`;
  return name in STRINGS[current] ? t(name, { message: error.message }) : t("error.other", { message: error.message });
}

/** Puts the strings that elements name (data-text, data-label) into them. */
export function translate(root = document) {
  document.documentElement.lang = current === "zh" ? "zh-Hans" : current;
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
    if (element.tagName === "BUTTON") element.title = t(element.dataset.label);
  }
}

/** Goes to the other language; listeners of "language" on the document draw what they made themselves. */
export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
  localStorage.setItem(KEPT, current);
  translate();
  document.dispatchEvent(new Event("language"));
}
