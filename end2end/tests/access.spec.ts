// axe looks at every page, in light and dark, on a desktop and on a phone: nothing serious may be wrong.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, open, setUp, signOut, test } from '../fixtures';
import type { AxeResults } from 'axe-core';
import type { Page } from '@playwright/test';

const axe = readFileSync(createRequire(__filename).resolve('axe-core/axe.min.js'), 'utf8');

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

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test('axe finds nothing serious on any page', async ({ page, server }) => {
      test.setTimeout(240_000);
      const wrong: Record<string, string[]> = {};
      const look = async (name: string) => {
        const found = await faults(page);
        if (found.length > 0) wrong[name] = found;
      };
      await open(page, '/setup');
      await look('/setup');
      await setUp(page, server);
      await look('the studio, empty');
      await describe(page, 'a green circle on a white background', { steps: 4 });
      await page.getByRole('button', { name: 'Generate' }).click();
      const made = page.getByRole('link', { name: "Open the image's page" });
      await expect(made).toBeVisible({ timeout: 60_000 });
      await look('the studio, with an image');
      const image = await made.getAttribute('href');
      for (const path of ['/gallery', image!, '/collections', '/trash', '/account', '/admin', '/admin/people', '/admin/people/1', '/admin/audit']) {
        await open(page, path);
        // What is folded is part of the page too.
        await page.evaluate(() => document.querySelectorAll('main details').forEach((fold) => fold.setAttribute('open', '')));
        await look(path.replace(/[0-9a-f-]{36}/, 'ID'));
      }
      await signOut(page);
      await open(page, '/sign-in');
      await look('/sign-in');
      await open(page, '/sign-in/code');
      await look('/sign-in/code');
      expect(wrong).toEqual({});
    });
  });
}
