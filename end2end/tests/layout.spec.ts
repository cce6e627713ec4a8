// Every page fits its window, in light and in dark.
import { expect, open, setUp, signOut, test } from '../fixtures';

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test('no page is wider than the window', async ({ page, server }, info) => {
      const look = async (path: string) => {
        await open(page, path);
        const wide = await page.evaluate(() => {
          const width = document.documentElement.clientWidth;
          const culprits = [...document.body.querySelectorAll('*')]
            .filter((element) => element.getBoundingClientRect().right > width + 1)
            .map((element) => `${element.tagName.toLowerCase()}.${element.className}`);
          return { by: document.documentElement.scrollWidth - width, culprits };
        });
        expect(wide.by, `${path} is too wide: ${wide.culprits.slice(0, 5)}`).toBeLessThanOrEqual(0);
        await info.attach(path, { body: await page.screenshot(), contentType: 'image/png' });
      };
      await look('/setup');
      await setUp(page, server);
      for (const path of ['/', '/gallery', '/collections', '/trash', '/account', '/admin']) await look(path);
      await signOut(page);
      await look('/sign-in');

      // Light and dark are two designs, not one.
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
