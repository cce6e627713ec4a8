// The gallery as people use it: finding, marking, collecting, throwing away and having back, comparing,
// sharing. On a desktop and on a phone.
import { readFileSync } from 'node:fs';
import type { Page } from '@playwright/test';
import { describe, expect, hydrated, makeImages, open, setUp, signIn, test } from '../fixtures';

/** Makes images through the API, with the session of the page. */
async function make(page: Page, prompts: string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const [place, prompt] of prompts.entries()) {
    const answer = await page.request.post('/api/generate-image', {
      data: { prompt, num_inference_steps: 2, seed: place + 1 },
      headers: { accept: 'application/json' },
      timeout: 60_000,
    });
    expect(answer.status(), await answer.text()).toBe(200);
    ids.push(answer.headers()['x-atelier-image-id']);
  }
  return ids;
}

const tile = (page: Page, prompt: string) => page.locator('.tile', { has: page.getByRole('img', { name: prompt }) });

test('what is deleted comes back by undo, and from the trash', async ({ page, server }) => {
  await setUp(page, server);
  await make(page, ['a red circle', 'a blue square', 'a green star']);
  await open(page, '/gallery');
  await expect(page.getByText('3 images', { exact: true })).toBeVisible();
  await page.getByRole('checkbox', { name: 'Select: a red circle' }).check({ force: true });
  await page.getByRole('checkbox', { name: 'Select: a blue square' }).check({ force: true });
  await expect(page.getByText('2 selected')).toBeVisible();
  await page.locator('#bulk').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('2 images are in the trash.')).toBeVisible();
  await expect(tile(page, 'a red circle')).toHaveCount(0);
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(tile(page, 'a red circle')).toBeVisible();
  await expect(page.getByText('3 images', { exact: true })).toBeVisible();

  // From an image's own page, and back from the trash.
  await page.getByRole('img', { name: 'a green star' }).click();
  await expect(page.getByRole('heading', { name: 'a green star' })).toBeVisible();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await expect(page).toHaveURL(/\/gallery$/);
  await expect(page.getByText('The image is in the trash.')).toBeVisible();
  await expect(tile(page, 'a green star')).toHaveCount(0);
  await page.getByRole('link', { name: 'Trash' }).click();
  await expect(page.getByText('stays here for 30 days')).toBeVisible();
  await page.getByRole('checkbox', { name: 'Select: a green star' }).check({ force: true });
  await page.getByRole('button', { name: 'Restore' }).click();
  await expect(page.getByText('The trash is empty.')).toBeVisible();
  await page.getByRole('link', { name: 'All', exact: true }).click();
  await expect(tile(page, 'a green star')).toBeVisible();
});

test('words, favourites and the address find images', async ({ page, server }) => {
  await setUp(page, server);
  const [circle] = await make(page, ['a red circle', 'a red square', 'a blue star']);
  await open(page, `/gallery/${circle}`);
  await page.getByRole('button', { name: 'Favourite' }).click();
  await expect(page.getByRole('button', { name: 'Favourite' })).toHaveAttribute('aria-pressed', 'true');
  await page.getByRole('button', { name: '4 stars' }).click();
  await expect(page.getByRole('button', { name: '4 stars' })).toHaveAttribute('aria-pressed', 'true');

  await open(page, '/gallery');
  const search = page.getByRole('searchbox', { name: 'Words in prompts' });
  await search.fill('red -square');
  await search.press('Enter');
  await expect(page).toHaveURL(/\/gallery\?q=red%20-square$/);
  await expect(page.getByText('1 image found')).toBeVisible();
  await expect(tile(page, 'a red circle')).toBeVisible();
  await expect(search, 'the field keeps the focus').toBeFocused();
  await page.goBack();
  await expect(page.getByText('3 images', { exact: true })).toBeVisible();
  await expect(search).toHaveValue('');

  await page.getByRole('link', { name: 'Favourites' }).click();
  await expect(page.getByText('1 image found')).toBeVisible();
  // The address alone says it all.
  await open(page, '/gallery?rating=4');
  await expect(page.getByText('1 image found')).toBeVisible();
  await page.getByLabel('Model').selectOption('demo');
  await expect(page).toHaveURL(/model=demo/);
  await expect(tile(page, 'a red circle')).toBeVisible();
});

test('the search works without JavaScript', async ({ page, server, browser }) => {
  await setUp(page, server);
  await make(page, ['a red circle', 'a blue star']);
  const context = await browser.newContext({
    baseURL: server.url,
    javaScriptEnabled: false,
    storageState: await page.context().storageState(),
  });
  const plain = await context.newPage();
  await plain.goto('/gallery');
  await plain.getByRole('searchbox').fill('blue');
  await plain.getByRole('button', { name: 'Search' }).click();
  await expect(plain.getByText('1 image found')).toBeVisible();
  // And so does the trash.
  await plain.getByRole('checkbox', { name: 'Select: a blue star' }).check();
  await plain.locator('#bulk').getByRole('button', { name: 'Delete' }).click();
  await expect(plain.getByText('The image is in the trash.')).toBeVisible();
  await context.close();
});

test('a collection is filled, shared, and seen by a colleague', async ({ page, server, anotherPage }) => {
  await setUp(page, server);
  server.addUser('bob');
  await make(page, ['a red circle', 'a blue square']);
  await open(page, '/collections');
  await page.getByLabel('Name', { exact: true }).first().fill('For the team');
  await page.locator('#collection-shared').check();
  await page.getByRole('button', { name: 'Make the collection' }).click();
  await expect(page.getByText('0 images · shared with everybody')).toBeVisible();
  await open(page, '/gallery');
  await page.getByRole('checkbox', { name: 'Select: a red circle' }).check({ force: true });
  const added = page.waitForResponse(/collect_images/);
  await page.getByRole('button', { name: 'Add to it' }).click();
  expect((await added).ok()).toBe(true);

  const other = await anotherPage();
  await signIn(other, 'bob');
  await open(other, '/collections');
  await other.getByRole('link', { name: 'For the team' }).click();
  await expect(other.getByRole('heading', { name: 'For the team' })).toBeVisible();
  await expect(tile(other, 'a red circle')).toBeVisible();
  await expect(tile(other, 'a blue square')).toHaveCount(0);
  await tile(other, 'a red circle').getByRole('link').click();
  await expect(other.getByText('In a collection that ada shares')).toBeVisible();
  await expect(other.getByRole('button', { name: 'Delete', exact: true })).toHaveCount(0);
});

test('a collection that was deleted comes back with what was in it', async ({ page, server }) => {
  await setUp(page, server);
  const [id] = await make(page, ['a red circle']);
  const made = await page.request.post('/api/collections', { data: { name: 'Circles' } });
  const { id: collection } = (await made.json()) as { id: string };
  await page.request.post('/api/images/act', { data: { ids: [id], act: { collect: collection } } });
  await open(page, '/collections');
  await page.getByText('Change Circles').click();
  await page.getByRole('button', { name: 'Delete the collection, keep its images' }).click();
  await expect(page.getByRole('link', { name: 'Circles' })).toHaveCount(0);
  await page.getByRole('button', { name: 'Undo' }).click();
  await page.getByRole('link', { name: 'Circles' }).click();
  await expect(tile(page, 'a red circle')).toBeVisible();
});

test('what is deleted for good is asked about first', async ({ page, server }) => {
  await setUp(page, server);
  const [id] = await make(page, ['a red circle']);
  await page.request.post('/api/images/act', { data: { ids: [id], act: 'trash' } });
  await open(page, '/trash');
  await page.getByRole('checkbox', { name: 'Select: a red circle' }).check({ force: true });
  await page.getByText('Delete for good …').click();
  await expect(page.getByText('This cannot be undone.').last()).toBeVisible();
  await page.getByRole('button', { name: 'Delete them for good' }).click();
  await expect(page.getByText('The trash is empty.')).toBeVisible();
});

test('variations and a larger version begin from the image', async ({ page, server }) => {
  await setUp(page, server);
  const [id] = await makeImages(page, ['a red circle']);
  for (const [button, size] of [
    ['Variations', '128'],
    ['Upscale', '256'],
  ]) {
    await open(page, `/gallery/${id}`);
    await page.getByRole('link', { name: button, exact: true }).click();
    await expect(page.getByLabel('Prompt', { exact: true })).toHaveValue('a red circle');
    await expect(page.locator('[name="width"]').first()).toHaveValue(size);
    await expect(page.locator('[name="init_image"]').first()).toHaveValue(`image:${id}`);
  }
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({ timeout: 60_000 });
  await page.getByRole('link', { name: "Open the image's page" }).click();
  await expect(page.getByText('256 × 256')).toBeVisible();
  await expect(page.getByRole('heading', { name: 'Made from' })).toBeVisible();
});

test('two images are compared, several downloaded, ranges chosen with shift', async ({ page, server }) => {
  await setUp(page, server);
  await make(page, ['a red circle', 'a blue square', 'a green star']);
  await open(page, '/gallery');
  await page.getByRole('checkbox', { name: 'Select: a green star' }).click({ force: true });
  await page.getByRole('checkbox', { name: 'Select: a red circle' }).click({ force: true, modifiers: ['Shift'] });
  await expect(page.getByText('3 selected')).toBeVisible();
  const downloading = page.waitForEvent('download');
  await page.locator('#bulk').getByRole('button', { name: 'Download' }).click();
  const archive = readFileSync(await (await downloading).path());
  expect(archive.subarray(0, 4).toString('latin1')).toBe('PK\u0003\u0004');
  expect(archive.toString('latin1').split('PK\u0001\u0002').length - 1, 'entries').toBe(3);

  await page.keyboard.press('Escape');
  await expect(page.locator('#bulk')).toBeHidden();
  await page.getByRole('checkbox', { name: 'Select: a green star' }).click({ force: true });
  await page.getByRole('checkbox', { name: 'Select: a blue square' }).click({ force: true });
  await page.getByRole('link', { name: 'Compare' }).click();
  await expect(page.getByRole('heading', { name: 'Compare' })).toBeVisible();
  await expect(page.getByRole('cell', { name: 'a green star' })).toBeVisible();
  await hydrated(page);
  await page.getByRole('button', { name: 'One over the other' }).click();
  const slider = page.getByRole('slider', { name: 'How much of A is shown' });
  await slider.fill('20');
  const clip = page.locator('.pair-second .picture');
  await expect(clip).toHaveCSS('clip-path', 'inset(0px 0px 0px 20%)');
  // By the keyboard, and by a press on the images themselves.
  await slider.focus();
  await page.keyboard.press('ArrowRight');
  await expect(clip).toHaveCSS('clip-path', 'inset(0px 0px 0px 21%)');
  await page.keyboard.press('End');
  await expect(clip).toHaveCSS('clip-path', 'inset(0px 0px 0px 100%)');
  const stage = (await page.locator('.pair-stage').boundingBox())!;
  await page.mouse.click(stage.x + stage.width / 2, stage.y + stage.height / 2);
  await expect.poll(async () => Math.abs(Number(await slider.inputValue()) - 50)).toBeLessThan(4);
});

test('the keyboard alone chooses and throws away', async ({ page, server }) => {
  await setUp(page, server);
  await make(page, ['a red circle', 'a blue square']);
  await open(page, '/gallery');
  await tile(page, 'a blue square').getByRole('link').focus();
  await page.keyboard.press('ArrowRight');
  await expect(tile(page, 'a red circle').getByRole('link')).toBeFocused();
  await page.keyboard.press('x');
  await expect(page.getByText('1 selected')).toBeVisible();
  await page.keyboard.press('Delete');
  await expect(page.getByText('The image is in the trash.')).toBeVisible();
  await expect(tile(page, 'a red circle')).toHaveCount(0);
});

test('a link shows one image to a stranger until it is revoked', async ({ page, server, browser, troubles }) => {
  troubles.allow(/console error: Failed to load resource: .* 404/);
  await setUp(page, server);
  const [id] = await make(page, ['a red circle']);
  await open(page, `/gallery/${id}`);
  await page.getByText('Share a link').click();
  await page.getByRole('button', { name: 'Make a link' }).click();
  const link = await page.getByLabel('The link, shown this once').inputValue();
  const context = await browser.newContext();
  const stranger = await context.newPage();
  await stranger.goto(link);
  const image = stranger.getByRole('img', { name: 'A shared image' });
  await expect(image).toBeVisible();
  await expect
    .poll(() => image.evaluate((image: HTMLImageElement) => image.complete && image.naturalWidth))
    .toBe(128);
  await expect(stranger.getByText('a red circle')).toHaveCount(0);
  await page.getByText('Revoke …').click();
  await page.getByRole('button', { name: 'Revoke the link' }).click();
  await expect(page.getByText('Revoke …')).toHaveCount(0);
  expect((await stranger.goto(link))!.status()).toBe(404);
  await context.close();
});

test('remixing goes on in the studio, and the child knows its parent', async ({ page, server }) => {
  await setUp(page, server);
  const [id] = await make(page, ['a red circle']);
  await describe(page, 'something that I was typing');
  await open(page, `/gallery/${id}`);
  await page.getByText('Remix …').click();
  await page.getByRole('link', { name: 'Take the seed only' }).click();
  await expect(page.getByLabel('Prompt', { exact: true })).toHaveValue('something that I was typing');
  // The seed stands among the folded settings.
  await expect(page.locator('#seed')).toHaveValue('1');
  const child = await page.request.post('/api/generate-image', {
    data: { prompt: 'a blue circle', init_image: { image_id: id }, strength: 0.5, num_inference_steps: 4 },
    headers: { accept: 'application/json' },
    timeout: 60_000,
  });
  await open(page, `/gallery/${child.headers()['x-atelier-image-id']}`);
  await expect(page.getByRole('heading', { name: 'Made from' })).toBeVisible();
  await page.locator('.kin').getByRole('link').click();
  await expect(page).toHaveURL(new RegExp(`/gallery/${id}$`));
  await expect(page.getByRole('heading', { name: 'Made from this one' })).toBeVisible();
});

test('a PNG of another program is brought in with its settings', async ({ page, server, troubles }) => {
  // One of the two files is no image, on purpose.
  troubles.allow(/422 .*\/api\/images\/import/);
  await setUp(page, server);
  const [id] = await make(page, ['a red circle']);
  const file = await (await page.request.get(`/images/${id}.png`)).body();
  // Ours without our own chunk is a file as A1111 writes it.
  const at = file.indexOf('atelier\0');
  const length = file.readUInt32BE(at - 8);
  const theirs = Buffer.concat([file.subarray(0, at - 8), file.subarray(at + length + 4)]);
  await open(page, '/gallery');
  await page.getByText('Import images').click();
  await page.locator('#import-file').setInputFiles([
    { name: 'one.png', mimeType: 'image/png', buffer: theirs },
    { name: 'no.png', mimeType: 'image/png', buffer: Buffer.from('no image') },
  ]);
  await expect(page.getByText('1 image was brought in.')).toBeVisible();
  await expect(page.getByText('no.png: The file is no PNG')).toBeVisible();
  await expect(page.getByText('2 images', { exact: true })).toBeVisible();
});
