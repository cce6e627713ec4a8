// What holds for all pages; that each of them fits its window is looked at in access.spec.ts.
import { expect, open, setUp, test } from '../fixtures';

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test('light and dark are two designs, not one', async ({ page, server }) => {
      await open(page, '/setup');
      expect(server.url).not.toBe('');
      const ground = await page.evaluate(() => {
        const opaque = [document.body, document.documentElement]
          .map((element) => getComputedStyle(element).backgroundColor)
          .find((colour) => colour !== 'rgba(0, 0, 0, 0)');
        const canvas = document.createElement('canvas').getContext('2d')!;
        canvas.fillStyle = opaque ?? 'white';
        canvas.fillRect(0, 0, 1, 1);
        const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
        return (red + green + blue) / 3;
      });
      if (colorScheme === 'dark') expect(ground).toBeLessThan(80);
      else expect(ground).toBeGreaterThan(180);
    });
  });
}

test('an address that leads nowhere says so', async ({ page, server, troubles }) => {
  troubles.allow(/console error: Failed to load resource: .* 404/);
  await setUp(page, server);
  const answer = await page.goto('/no/such/page');
  expect(answer!.status()).toBe(404);
  await expect(page.getByRole('heading', { name: 'There is nothing here' })).toBeVisible();
});
