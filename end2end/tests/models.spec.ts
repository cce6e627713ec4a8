// An administrator fetches a model, watches it come, stops and resumes it, uses it, and removes it.
import { describe, expect, open, setUp, test } from '../fixtures';
import { Hub, REPOSITORY } from '../hub';

for (const look of [
  { colorScheme: 'light', viewport: { width: 1440, height: 900 } },
  { colorScheme: 'dark', viewport: { width: 390, height: 844 } },
] as const) {
  test.describe(`${look.colorScheme}, ${look.viewport.width} wide`, () => {
    test.use(look);

    test('a model is fetched, stopped, resumed, used and removed', async ({ page, server, troubles }, info) => {
      test.setTimeout(240_000);
      const hub = new Hub();
      await hub.start();
      try {
        server.settings.HF_ENDPOINT = hub.url;
        await server.stop();
        await server.start();
        const picture = async (name: string) => {
          const wide = await page.evaluate(
            () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
          );
          expect(wide, `${name} is too wide`).toBeLessThanOrEqual(0);
          const path = info.outputPath(`${name}.png`);
          await page.screenshot({ path, fullPage: true });
          await info.attach(name, { path, contentType: 'image/png' });
        };
        await setUp(page, server);
        await open(page, '/admin/models');
        const card = page.locator('article.card', { has: page.getByRole('heading', { name: 'shapes', exact: true }) });
        const form = page.locator('article.card', { has: page.getByRole('heading', { name: 'Fetch a model' }) });

        // A mistake is said at its field; the browser logs its status too.
        troubles.allow(/console error: Failed to load resource: .* 422/);
        await form.getByLabel('Model').fill('nonsense');
        await form.getByRole('button', { name: 'Fetch' }).click();
        await expect(form.getByText(/OWNER\/NAME/).first()).toBeVisible();
        await expect(form.locator('.field-wrong')).toHaveCount(1);

        // Bytes are seen to come; stopped, they wait; resumed, the rest comes.
        hub.pause = 40;
        await form.getByLabel('Model').fill(REPOSITORY);
        await form.getByRole('button', { name: 'Fetch' }).click();
        await expect(card.getByText('fetching')).toBeVisible();
        await expect(card.getByText(/[1-9].* MiB of .* MiB/)).toBeVisible({ timeout: 30_000 });
        await expect(card.getByText(/\/s · .*left/)).toBeVisible();
        await picture('fetching');
        await card.getByRole('button', { name: 'Stop fetching shapes' }).click();
        await expect(card.getByText('interrupted')).toBeVisible();
        await picture('interrupted');
        hub.pause = 0;
        await card.getByRole('button', { name: 'Resume shapes' }).click();
        await expect(card.getByRole('button', { name: 'Make shapes the default' })).toBeVisible({ timeout: 30_000 });

        await card.getByRole('button', { name: 'Check the files of shapes' }).click();
        await expect(card.getByText('Every checksum was right')).toBeVisible({ timeout: 30_000 });
        await card.getByRole('button', { name: 'Make shapes the default' }).click();
        await expect(card.getByText('default', { exact: true })).toBeVisible();
        await picture('ready');

        await open(page, '/');
        await describe(page, 'a red circle on a blue background', { steps: 4, seed: 3 });
        await page.getByRole('button', { name: 'Generate' }).click();
        await page.getByRole('link', { name: "Open the image's page" }).click({ timeout: 60_000 });
        await expect(page.locator('dl.facts dt:text-is("Model") + dd').first()).toHaveText('shapes');

        await open(page, '/admin/models');
        await card.getByText('Remove …').click();
        await card.getByRole('button', { name: 'Delete shapes from the disk' }).click();
        await expect(card).toHaveCount(0);
      } finally {
        hub.stop();
      }
    });
  });
}
