// Filters the cards of the models by what is typed. Without JavaScript there is no search field, and every card is there.
"use strict";

const field = document.querySelector("[data-search]");
if (field) {
  const cards = [...document.querySelectorAll("[data-cards] > li")].map((item) => [item, item.querySelector("[data-words]").dataset.words]);
  const nothing = document.querySelector("[data-nothing]");
  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const [item, text] of cards) {
      item.hidden = !words.every((word) => text.includes(word));
      found += item.hidden ? 0 : 1;
    }
    nothing.hidden = found > 0;
  };
  field.closest("label").hidden = false;
  field.addEventListener("input", filter);
  filter(); // the browser may have kept what was typed
}
