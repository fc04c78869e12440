// Opens pages in a real browser, on a phone and on a wide screen, in light and dark, and prints what is wrong with them.
// Usage: node browser.js PROGRAM FOLDER [PAGE...]; with SHOTS=DIR in the environment it also leaves pictures there.
import { chromium } from "playwright-core";

const [program, folder, ...pages] = process.argv.slice(2);
const screens = { phone: { width: 390, height: 844 }, wide: { width: 1440, height: 900 } };

// Runs inside the page: the contrast of every text with what is painted behind it, texts that leave their card, overflow.
function look() {
  const rgba = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const painted = rgba(getComputedStyle(at).backgroundColor);
      if (painted.length < 4 || painted[3] > 0) return painted;
    }
    return [255, 255, 255];
  };
  const faint = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const drawn = element instanceof SVGElement;
    const badge = drawn && element.classList.contains("badge-text") && element.previousElementSibling;
    const behind = badge ? rgba(getComputedStyle(badge).fill) : ground(drawn ? element.closest(".flow") : element);
    const found = contrast(rgba(drawn ? style.fill : style.color), behind);
    if (found < 4.5) faint.push(`${found.toFixed(2)}: ${walker.currentNode.textContent.trim().slice(0, 40)}`);
  }
  const outside = [...document.querySelectorAll("svg .step")].flatMap((step) => {
    const card = step.querySelector(".card").getBoundingClientRect();
    return [...step.querySelectorAll("text")]
      .filter((text) => text.getBoundingClientRect().right > card.right || text.getBoundingClientRect().left < card.left)
      .map((text) => text.textContent);
  });
  const small = [...document.querySelectorAll("svg text")].map((text) => text.getBoundingClientRect().height).filter((h) => h < 10);
  return { faint, outside, texts, small: small.length, overflow: document.documentElement.scrollWidth - innerWidth };
}

const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
const tab = await browser.newPage();
const told = [];
const asked = [];
tab.on("console", (message) => told.push(message.text()));
tab.on("pageerror", (error) => told.push(String(error)));
tab.on("request", (request) => /^(file|data):/.test(request.url()) || asked.push(request.url()));
const found = [];
for (const page of pages) {
  await tab.goto(`file://${folder}/${page}`);
  for (const [screen, viewport] of Object.entries(screens)) {
    await tab.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await tab.emulateMedia({ colorScheme });
      const { color, backgroundColor } = await tab.evaluate(() => ({ ...getComputedStyle(document.body) }));
      found.push({ page, screen, colorScheme, ground: backgroundColor, color, ...(await tab.evaluate(look)), told: told.splice(0), asked: asked.splice(0) });
      if (process.env.SHOTS) {
        const name = `${page.replaceAll("/", "-").replace(".html", "")}-${screen}-${colorScheme}.png`;
        await tab.screenshot({ path: `${process.env.SHOTS}/${name}`, fullPage: true });
      }
    }
  }
}
await browser.close();
console.log(JSON.stringify(found));
