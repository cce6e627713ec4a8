// The gallery's wall with more images than fit on a page: only those in sight are on the page, wherever
// one jumps to, with a mouse, a finger or the keyboard alone.
import type { Page } from '@playwright/test';
import { expect, open, setUp, test } from '../fixtures';
import { hang } from '../pictures';

const MANY = 700;

const name = (number: number) => `picture ${String(number).padStart(4, '0')}`;
/** The tile at a place, counted from 0. */
const at = (page: Page, place: number) => page.locator(`.tile[data-at="${place}"]`);

/** The wall has taken its places: it knows of all its images. */
async function placed(page: Page, count: number): Promise<void> {
  await expect(page.locator('.wall-placed .tile').first()).toHaveAttribute('aria-setsize', String(count));
}

/** Collects what moves by itself. */
async function watchShifts(page: Page): Promise<() => Promise<number>> {
  await page.addInitScript(() => {
    const seen = window as unknown as { shifted: number };
    seen.shifted = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as (PerformanceEntry & { value: number; hadRecentInput: boolean })[]) {
        if (!entry.hadRecentInput) seen.shifted += entry.value;
      }
    }).observe({ type: 'layout-shift', buffered: true });
  });
  return () => page.evaluate(() => (window as unknown as { shifted: number }).shifted);
}

test('only what is in sight is on the page, and a jump loads nothing in between', async ({ page, server }) => {
  test.slow();
  const shifted = await watchShifts(page);
  await setUp(page, server);
  await hang(page.request, MANY);
  const asked: string[] = [];
  page.on('request', (request) => {
    if (request.url().endsWith('/app/find_images')) asked.push(decodeURIComponent(request.postData() ?? ''));
  });
  await open(page, '/gallery');
  await placed(page, MANY);
  expect(await page.locator('.tile').count(), 'few of them').toBeLessThan(250);
  await expect(page.getByRole('img', { name: name(MANY - 1) })).toBeVisible();
  expect(await shifted(), 'nothing moved while images came').toBeLessThan(0.02);

  // Each row is as high as it says, and fills the wall.
  const boxes = await page.locator('.wall-placed .tile').evaluateAll((tiles) =>
    tiles.slice(0, 12).map((tile) => {
      const { left, right, top, height } = tile.getBoundingClientRect();
      return { left, right, top, height };
    }),
  );
  const wall = (await page.locator('.wall').boundingBox())!;
  const row = boxes.filter((box) => Math.abs(box.top - boxes[0].top) < 1);
  expect(Math.abs(row[row.length - 1].right - (wall.x + wall.width))).toBeLessThan(1.5);
  expect(row.every((box) => Math.abs(box.height - row[0].height) < 0.5)).toBe(true);

  // To the end: what is between is not loaded.
  const before = asked.length;
  await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
  await expect(page.getByRole('img', { name: name(0) })).toBeVisible();
  expect(asked.length - before, asked.join('\n')).toBeLessThanOrEqual(4);
  expect(await page.locator('.tile').count(), 'still few').toBeLessThan(250);
  expect(await shifted(), 'nothing moved').toBeLessThan(0.02);

  // And to the middle.
  await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight / 2));
  await expect
    .poll(() =>
      page.locator('.wall-placed img').evaluateAll((images) => {
        const inSight = images.filter((image) => {
          const { top, bottom } = image.getBoundingClientRect();
          return bottom > 0 && top < innerHeight;
        }) as HTMLImageElement[];
        return inSight.length > 0 && inSight.every((image) => image.complete && image.naturalWidth > 0);
      }),
    )
    .toBe(true);

  // Into an image, and back to where it hangs: by its link, and by the browser's own button.
  for (const back of ['link', 'button']) {
    const top = await page.evaluate(() => Math.round(scrollY));
    const tile = await page.evaluateHandle(() => document.elementFromPoint(innerWidth / 2, innerHeight / 2)!.closest('.tile')!);
    const place = await tile.evaluate((tile) => (tile as HTMLElement).dataset.at);
    await page.mouse.move(0, 0);
    await tile.asElement()!.$('a').then((link) => link!.click());
    await expect(page.getByRole('link', { name: '← Gallery' })).toBeVisible();
    if (back === 'link') await page.getByRole('link', { name: '← Gallery' }).click();
    else await page.goBack();
    await expect.poll(() => page.evaluate(() => Math.round(scrollY))).toBe(top);
    await expect(at(page, Number(place)).locator('img')).toBeInViewport();
  }
});

test('the keyboard goes where nothing is on the page yet, and chooses from end to end', async ({ page, server }) => {
  test.slow();
  await setUp(page, server);
  await hang(page.request, MANY);
  await open(page, '/gallery');
  await placed(page, MANY);
  await at(page, 0).getByRole('link').focus();
  await page.keyboard.press('ArrowRight');
  await expect(at(page, 1).getByRole('link')).toBeFocused();
  await page.keyboard.press('ArrowLeft');
  await expect(at(page, 0).getByRole('link')).toBeFocused();
  await page.keyboard.press('x');
  await expect(page.getByText('1 selected')).toBeVisible();
  // Down, row by row, past what was there.
  for (let rows = 0; rows < 25; rows++) {
    const from = await page.evaluate(() => (document.activeElement!.closest('.tile') as HTMLElement).dataset.at);
    await page.keyboard.press('ArrowDown');
    await expect(at(page, Number(from)).locator('.tile-link')).not.toBeFocused();
  }
  const focused = page.locator('.tile-link:focus');
  await expect(focused).toBeInViewport();
  await expect(focused.getByRole('img')).toBeVisible();
  await page.keyboard.press('End');
  await expect(at(page, MANY - 1).getByRole('link')).toBeFocused();
  await expect(page.getByRole('img', { name: name(0) })).toBeInViewport();
  // From the first to the last, most of which were never loaded.
  await page.keyboard.press('Shift+X');
  await expect(page.getByText(`${MANY} selected`)).toBeVisible();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+a');
  await expect(page.getByText(`${MANY} selected`)).toBeVisible();
  await page.keyboard.press('Delete');
  await expect(page.getByText(`${MANY} images are in the trash.`)).toBeVisible();
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(page.getByText(`${MANY} images`, { exact: true })).toBeVisible();
  await placed(page, MANY);
});

test.describe('with fingers', () => {
  // A desktop's screen can have touch too.
  test.use({ hasTouch: true });

  test('a finger that stays chooses, and taps choose on', async ({ page, server }) => {
    await setUp(page, server);
    await hang(page.request, 12);
    await open(page, '/gallery');
    await placed(page, 12);
    const box = (await at(page, 0).boundingBox())!;
    const session = await page.context().newCDPSession(page);
    const point = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    await session.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [point] });
    await expect(page.getByText('1 selected')).toBeVisible();
    await session.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
    await expect(page, 'the press opened nothing').toHaveURL(/\/gallery$/);
    await at(page, 2).getByRole('link').tap();
    await expect(page.getByText('2 selected')).toBeVisible();
    await page.getByRole('button', { name: 'Select all' }).tap();
    await expect(page.getByText('12 selected')).toBeVisible();
    await page.getByRole('button', { name: 'Clear' }).tap();
    await expect(page.locator('#bulk')).toBeHidden();
    await at(page, 2).getByRole('link').tap();
    await expect(page).toHaveURL(/\/gallery\/.+/);
  });
});

test('without JavaScript the wall is pages', async ({ page, server, browser }) => {
  await setUp(page, server);
  await hang(page.request, 50);
  const context = await browser.newContext({
    baseURL: server.url,
    javaScriptEnabled: false,
    storageState: await page.context().storageState(),
  });
  const plain = await context.newPage();
  await plain.goto('/gallery');
  await expect(plain.locator('.tile')).toHaveCount(40);
  await expect(plain.getByRole('img', { name: name(49) })).toBeVisible();
  await plain.getByRole('link', { name: 'Load older' }).click();
  await expect(plain.locator('.tile')).toHaveCount(10);
  await expect(plain.getByRole('img', { name: name(0) })).toBeVisible();
  await plain.getByRole('link', { name: 'Newest first' }).click();
  await expect(plain.getByRole('img', { name: name(49) })).toBeVisible();
  await context.close();
});
