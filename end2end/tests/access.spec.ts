// Every page, in light and dark, on a desktop and on a phone: it fits its window, axe finds nothing serious,
// and a picture of it is kept in end2end/screenshots.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { expect, open, setUp, test } from '../fixtures';
import { furnish, PAGES, routes, SETUP_ROUTE, tour } from '../pages';
import type { AxeResults } from 'axe-core';
import type { Page } from '@playwright/test';

const axe = readFileSync(createRequire(__filename).resolve('axe-core/axe.min.js'), 'utf8');
const pictures = resolve(__dirname, '../screenshots');

/** What is wrong with the page, of what keeps people out. */
async function faults(page: Page): Promise<string[]> {
  // Run by the test, not by the page, so that the page's content security policy stays as it is.
  await page.evaluate(axe);
  const results = await page.evaluate(() =>
    (window as unknown as { axe: { run: () => Promise<AxeResults> } }).axe.run(),
  );
  expect(results.passes.length, 'axe has looked').toBeGreaterThan(5);
  return results.violations
    .filter((violation) => violation.impact === 'serious' || violation.impact === 'critical')
    .map((violation) => {
      const places = violation.nodes.slice(0, 4).map((node) => `${node.target}: ${node.failureSummary}`);
      return `${violation.id} (${violation.impact}) ${places.join(' | ')}`;
    });
}

/** What sticks out of the window. */
async function tooWide(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.body.querySelectorAll('*')]
      .filter((element) => element.getBoundingClientRect().right > width + 1)
      .map((element) => `wider than the window: ${element.tagName.toLowerCase()}.${element.className}`)
      .slice(0, 5);
  });
}

/** Looks at a page in light and dark; answers what is wrong with it. */
async function inspect(page: Page, name: string, project: string): Promise<string[]> {
  const wrong: string[] = [];
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: `${pictures}/${project}/${name}-${colorScheme}.png`, animations: 'disabled' });
    wrong.push(...(await tooWide(page)).map((what) => `${colorScheme}: ${what}`));
    wrong.push(...(await faults(page)).map((what) => `${colorScheme}: ${what}`));
  }
  // What is folded is part of the page too.
  const folds = await page.evaluate(() => {
    const shut = document.querySelectorAll('main details:not([open])');
    shut.forEach((fold) => fold.setAttribute('open', ''));
    return shut.length;
  });
  if (folds > 0) {
    wrong.push(...(await tooWide(page)).map((what) => `unfolded: ${what}`));
    wrong.push(...(await faults(page)).map((what) => `unfolded: ${what}`));
  }
  return wrong;
}

test('every route of the interface is in the list of pages', () => {
  const listed = [...PAGES.map((page) => page.route), SETUP_ROUTE].sort();
  expect(routes().length, 'the route table was found').toBeGreaterThan(10);
  expect(routes().sort(), 'app/src/lib.rs and end2end/pages.ts name the same routes').toEqual(listed);
});

test('every page fits, and axe finds nothing serious', async ({ page, server, browser, troubles }, info) => {
  // Looks into others' images are off unless allowed; the page says so.
  troubles.allow(/console error: Failed to load resource: .* 403 .*people\/\d+\/images/);
  test.setTimeout(600_000);
  const wrong: Record<string, string[]> = {};
  const look = async (page: Page, name: string) => {
    const found = await inspect(page, name, info.project.name);
    if (found.length > 0) wrong[name] = found;
  };
  await open(page, SETUP_ROUTE);
  await look(page, 'setup');
  const house = await furnish(page, server);
  await tour(page, browser, server, house, look);
  expect(wrong).toEqual({});
});

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test('an empty house has nothing wrong either', async ({ page, server }) => {
      await setUp(page, server);
      const wrong: Record<string, string[]> = {};
      // What needs something to show has no empty state.
      for (const listed of PAGES.filter(({ route, as }) => as === 'admin' && !route.includes(':') && route !== '/compare')) {
        await open(page, listed.route);
        const found = [...(await tooWide(page)), ...(await faults(page))];
        if (found.length > 0) wrong[listed.name] = found;
      }
      expect(wrong).toEqual({});
    });
  });
}
