// The studio's tools, as a person uses them: presets, shapes, seed, styles, used prompts, LoRAs, an
// image to start from, a painted mask, offers, announcements, and the same state everywhere.
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Page } from '@playwright/test';
import {
  describe,
  expect,
  hydrated,
  open,
  openAdvanced,
  setUp,
  signIn,
  test,
  type Server,
} from '../fixtures';

/** Opens one of the tools below the prompt. */
async function openTool(page: Page, name: string): Promise<void> {
  const button = page.locator('.tool', { hasText: name });
  if ((await button.getAttribute('aria-expanded')) !== 'true') await button.click();
  await expect(button).toHaveAttribute('aria-expanded', 'true');
}

/** Waits until the desk shows a finished image, and answers its page's address. */
async function finished(page: Page): Promise<string> {
  const link = page.getByRole('link', { name: "Open the image's page" });
  await expect(link).toBeVisible({ timeout: 60_000 });
  return (await link.getAttribute('href')) ?? '';
}

async function generate(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Generate' }).click();
}

/** A picture as the bytes of a PNG. */
async function picture(page: Page, width: number, height: number): Promise<Buffer> {
  const base64 = await page.evaluate(
    ([width, height]) => {
      const canvas = document.createElement('canvas');
      canvas.width = width;
      canvas.height = height;
      const context = canvas.getContext('2d')!;
      context.fillStyle = '#2060c0';
      context.fillRect(0, 0, width, height);
      context.fillStyle = '#f0c040';
      context.fillRect(width / 4, height / 4, width / 2, height / 2);
      return canvas.toDataURL('image/png').split(',')[1];
    },
    [width, height],
  );
  return Buffer.from(base64, 'base64');
}

/** Gives the page a picture as a drop or a paste would. */
async function give(page: Page, how: 'drop' | 'paste', file: Buffer): Promise<void> {
  await page.evaluate(
    ([how, base64]) => {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'picture.png', { type: 'image/png' }));
      const event =
        how === 'drop'
          ? new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })
          : new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true });
      document.body.dispatchEvent(event);
    },
    [how, file.toString('base64')] as const,
  );
}

/** The demo model once more under another name: a name says whether a model takes few steps. */
function copyDemo(server: Server, name: string): void {
  const models = join(server.dataDir, 'models');
  const demo = readdirSync(models, { withFileTypes: true }).find(
    (entry) => entry.isDirectory() && entry.name.includes('demo') && !entry.name.includes('refiner'),
  );
  cpSync(join(models, demo!.name), join(models, name), { recursive: true });
  // What the demo says about itself, its 20 steps among it.
  rmSync(join(models, name, 'atelier.json'), { force: true });
}

test('presets change the form in one click, are marked, kept, renamed and brought back', async ({
  page,
  server,
  anotherPage,
}) => {
  await setUp(page, server);
  await openAdvanced(page);
  const preset = (name: string) => page.locator('.preset', { hasText: name });
  await expect(preset('Balanced')).toHaveAttribute('aria-pressed', 'true');
  await preset('Fast').click();
  await expect(page.getByLabel('Steps')).toHaveValue('8');
  await expect(preset('Fast')).toHaveAttribute('aria-pressed', 'true');
  await expect(preset('Balanced')).toHaveAttribute('aria-pressed', 'false');
  await expect(page.locator('.done-line')).toContainText('steps 20 → 8');
  await page.locator('.done-line').getByRole('button', { name: 'Undo' }).click();
  await expect(preset('Balanced')).toHaveAttribute('aria-pressed', 'true');

  await page.getByLabel('Steps').fill('11');
  await page.getByText('Own presets').click();
  await page.getByLabel('Name of the preset').fill('Mine');
  await page.getByRole('button', { name: 'Save the settings' }).click();
  await expect(preset('Mine')).toHaveAttribute('aria-pressed', 'true');

  // Another browser of the same person has it, too.
  const second = await anotherPage();
  await signIn(second, 'ada');
  await second.locator('.preset', { hasText: 'Mine' }).click();
  await openAdvanced(second);
  await expect(second.getByLabel('Steps')).toHaveValue('11');

  await page.getByRole('button', { name: 'Rename the preset Mine' }).click();
  await page.getByLabel('New name').fill('Ours');
  await page.getByLabel('New name').press('Enter');
  await expect(preset('Ours')).toBeVisible();
  await page.getByRole('button', { name: 'Delete the preset Ours' }).click();
  await expect(preset('Ours')).toHaveCount(0);
  await page.locator('.done-line').getByRole('button', { name: 'Undo' }).click();
  await expect(preset('Ours')).toBeVisible();
});

test('shapes, the turn, the dice and the lock', async ({ page, server }) => {
  await setUp(page, server);
  await openAdvanced(page);
  await page.getByRole('button', { name: '16:9', exact: true }).click();
  await expect(page.getByLabel('Width')).toHaveValue('168');
  await expect(page.getByLabel('Height')).toHaveValue('96');
  await page.getByRole('button', { name: 'Landscape' }).click();
  await expect(page.getByLabel('Width')).toHaveValue('96');
  await expect(page.getByRole('button', { name: '9:16', exact: true })).toHaveAttribute('aria-pressed', 'true');

  const seed = page.getByRole('textbox', { name: 'Seed' });
  await page.getByRole('button', { name: 'Roll the dice' }).click();
  await expect(seed).toHaveValue(/^\d+$/);
  const lock = page.getByRole('button', { name: 'Lock', exact: true });
  await expect(lock).toHaveAttribute('aria-pressed', 'true');
  await lock.click();
  await expect(seed).toHaveValue('');
  await describe(page, 'a red circle on a blue background', { steps: 3 });
  await generate(page);
  await finished(page);
  await lock.click();
  await expect(seed).toHaveValue(/^\d+$/);
});

test('styles are put on, shown as they will be sent, kept and read from a file', async ({
  page,
  server,
}) => {
  await setUp(page, server);
  await describe(page, 'a red circle', { steps: 3 });
  await openTool(page, 'Styles');
  await page.getByRole('button', { name: 'Ink', exact: true }).click();
  await expect(page.locator('.sent-as')).toContainText('ink drawing of a red circle');

  await page.getByText('Own styles').click();
  await page.getByLabel('Name of the style').fill('On blue');
  await page.getByLabel('What the style adds').fill('{prompt} on a blue background');
  await page.getByRole('button', { name: 'Keep the style' }).click();
  await page.getByRole('button', { name: 'On blue', exact: true }).click();
  await page.getByRole('button', { name: 'Ink', exact: true }).click();
  await expect(page.locator('.sent-as')).toContainText('Sent as: a red circle on a blue background');
  await generate(page);
  await open(page, (await finished(page)));
  await expect(page.getByRole('heading', { name: 'a red circle on a blue background' })).toBeVisible();

  await open(page, '/');
  await page.getByText('Own styles').click();
  await page.getByLabel('From a styles.csv').setInputFiles({
    name: 'styles.csv',
    mimeType: 'text/csv',
    buffer: Buffer.from('name,prompt,negative_prompt\nCold,"{prompt}, cold light",warm\n'),
  });
  await expect(page.getByText('One new style.')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Cold', exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'Delete the style Cold' }).click();
  await expect(page.getByRole('button', { name: 'Cold', exact: true })).toHaveCount(0);
  await page.locator('.done-line').getByRole('button', { name: 'Undo' }).click();
  await expect(page.getByRole('button', { name: 'Cold', exact: true })).toBeVisible();
});

test('used prompts come back by arrow and by search, and long ones say what is not read', async ({
  page,
  server,
}) => {
  await setUp(page, server);
  const prompt = page.getByLabel('Prompt', { exact: true });
  for (const text of ['a red circle on a blue background', 'a green square on a white background']) {
    await describe(page, text, { steps: 2 });
    await generate(page);
    await expect(page.locator('.finished-words')).toContainText(text, { timeout: 60_000 });
  }
  await prompt.fill('');
  await prompt.press('ArrowUp');
  await expect(prompt).toHaveValue('a green square on a white background');
  await prompt.press('ArrowUp');
  await expect(prompt).toHaveValue('a red circle on a blue background');
  await prompt.press('ArrowDown');
  await expect(prompt).toHaveValue('a green square on a white background');

  await openTool(page, 'History');
  await expect(page.locator('.past')).toHaveCount(2);
  await page.getByLabel('Search what you asked for').fill('CIRCLE red');
  await expect(page.locator('.past')).toHaveCount(1);
  await page.locator('.past').click();
  await expect(prompt).toHaveValue('a red circle on a blue background');

  await prompt.fill(`${'circle '.repeat(90)}lighthouse`);
  await expect(page.locator('.token-cut')).toContainText('lighthouse');
  await page.getByRole('button', { name: 'Read all of it, in parts' }).click();
  await expect(page.locator('.token-cut')).toHaveCount(0);
  await expect(page.locator('.token-count')).toContainText('in 2 parts');
});

test('LoRAs are found, weighed, ordered and taken off', async ({ page, server }) => {
  const folder = join(server.dataDir, 'models', 'loras');
  mkdirSync(folder, { recursive: true });
  const fixtures = resolve('../server/engine/tests/fixtures/lora');
  const file = readdirSync(fixtures).filter((name) => name.endsWith('.safetensors')).sort()[0];
  for (let number = 0; number < 60; number++) {
    const name = `brush-${String(number).padStart(2, '0')}`;
    cpSync(join(fixtures, file), join(folder, `${name}.safetensors`));
  }
  await setUp(page, server);
  writeFileSync(join(folder, 'brush-07.preview.png'), await picture(page, 40, 40));
  await openTool(page, 'LoRAs');
  await expect(page.getByText('30 more; type to find them.')).toBeVisible();
  await page.getByLabel('Find a LoRA to add').fill('07');
  await expect(page.locator('.lora-found img')).toHaveCount(1);
  await page.getByRole('button', { name: 'Add brush-07' }).click();
  await page.getByLabel('Find a LoRA to add').fill('brush-08');
  await page.getByRole('button', { name: 'Add brush-08' }).click();
  await expect(page.locator('.lora-row')).toHaveCount(2);
  await page.getByLabel('Weight of brush-07', { exact: true }).fill('0.65');
  await page.getByLabel('Weight of brush-07', { exact: true }).press('Tab');
  await expect(page.getByLabel('Weight of brush-07, slider')).toHaveValue('0.65');
  await page.getByRole('button', { name: 'Move brush-08 up' }).click();
  await expect(page.locator('input[name=loras]')).toHaveValue('brush-08:1, brush-07:0.65');
  await page.getByRole('button', { name: 'Take brush-08 off' }).click();
  await expect(page.locator('input[name=loras]')).toHaveValue('brush-07:0.65');
});

test('an image is dropped, a mask painted over it, and both are used', async ({ page, server }) => {
  await setUp(page, server);
  await describe(page, 'a red circle on a blue background', { steps: 3 });
  await give(page, 'drop', await picture(page, 160, 96));
  await expect(page.getByAltText('The image to start from')).toBeVisible();
  await page.getByRole('button', { name: 'Take its shape' }).click();
  await expect(page.locator('.done-line')).toContainText('The size is 168 × 96');

  await page.getByRole('button', { name: 'Paint a mask' }).click();
  const sheet = page.locator('.mask-paint');
  await expect.poll(() => sheet.evaluate((canvas: HTMLCanvasElement) => canvas.width)).toBe(160);
  await page.getByRole('button', { name: 'Use the mask' }).click();
  await expect(page.getByText('Nothing is painted yet.')).toBeVisible();
  const painted = () =>
    sheet.evaluate((canvas: HTMLCanvasElement) => {
      // A copy: the page's own canvas is not made for being read again and again.
      const copy = document.createElement('canvas');
      copy.width = canvas.width;
      copy.height = canvas.height;
      const context = copy.getContext('2d', { willReadFrequently: true })!;
      context.drawImage(canvas, 0, 0);
      const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
      let count = 0;
      for (let at = 3; at < data.length; at += 4) count += data[at] > 0 ? 1 : 0;
      return count / (data.length / 4);
    });
  const box = (await sheet.boundingBox())!;
  await page.mouse.move(box.x + box.width * 0.3, box.y + box.height * 0.5);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.7, box.y + box.height * 0.5, { steps: 8 });
  await page.mouse.up();
  const first = await painted();
  expect(first).toBeGreaterThan(0.02);
  await page.locator('.mask-dialog').getByRole('button', { name: 'Undo' }).click();
  expect(await painted()).toBe(0);
  await page.getByRole('button', { name: 'Redo' }).click();
  expect(await painted()).toBeCloseTo(first, 2);
  await page.getByRole('button', { name: 'Invert' }).click();
  expect(await painted()).toBeGreaterThan(0.5);
  await page.getByRole('button', { name: 'Zoom in' }).click();
  await expect(page.getByText('125 %')).toBeVisible();
  await page.getByRole('button', { name: 'Use the mask' }).click();
  await expect(page.getByAltText('The mask')).toBeVisible();

  await generate(page);
  await finished(page);
  await page.getByRole('link', { name: "Open the image's page" }).click();
  await expect(page.getByRole('heading', { name: 'a red circle on a blue background' })).toBeVisible();
});

test('a picture is pasted, and one of the gallery is started from', async ({ page, server }) => {
  await setUp(page, server);
  await give(page, 'paste', await picture(page, 64, 64));
  const start = page.getByAltText('The image to start from');
  await expect(start).toHaveAttribute('src', /\/api\/uploads\//);
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await expect(start).toHaveCount(0);
  await describe(page, 'a red circle on a blue background', { steps: 3 });
  await generate(page);
  const image = (await finished(page)).split('/').at(-1)!;
  await page.evaluate((image) => {
    const data = new DataTransfer();
    data.setData('text/uri-list', `${location.origin}/gallery/${image}`);
    document.body.dispatchEvent(
      new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }),
    );
  }, image);
  await expect(start).toHaveAttribute('src', `/images/${image}.png`);
});

test('on a CPU a few-step model is offered, taken, and refused for good', async ({ page, server }) => {
  await setUp(page, server);
  await describe(page, 'a red circle on a blue background', { steps: 40 });
  await generate(page);
  await finished(page);
  await expect(page.locator('.estimate')).toContainText(/takes about .* on the CPU$/);
  copyDemo(server, 'demo-lightning-4step');
  await open(page, '/');
  const offer = page.locator('.offer');
  await expect(offer).toContainText(/About \d+(\.\d)?× faster on this machine: use demo-lightning-4step with 4 steps/);
  await offer.getByRole('button', { name: 'Use it' }).click();
  await expect(offer).toHaveCount(0);
  await openAdvanced(page);
  await expect(page.getByLabel('Model', { exact: true })).toHaveValue('demo-lightning-4step');
  await expect(page.locator('.preset', { hasText: 'Fast' })).toHaveAttribute('aria-pressed', 'true');
  await expect(page.locator('.estimate')).toContainText('a first guess');
  await page.locator('.done-line').getByRole('button', { name: 'Undo' }).click();
  await offer.getByRole('button', { name: 'Not for me' }).click();
  await expect(offer).toHaveCount(0);
  await open(page, '/');
  await expect(page.locator('.estimate')).not.toBeEmpty();
  await expect(offer).toHaveCount(0);
});

test('a finished image says so on every page, in the title, and in a second browser', async ({
  page,
  server,
  anotherPage,
}) => {
  await setUp(page, server);
  const second = await anotherPage();
  await signIn(second, 'ada');
  await describe(page, 'a red circle on a blue background', { steps: 150 });
  await generate(page);
  await expect(page.locator('.underway-phase')).toHaveText(/^Step \d+ of 150$/, { timeout: 30_000 });
  // The second browser, and the first one after a reload, show the same job at work.
  await expect(second.locator('.underway-phase')).toHaveText(/^Step \d+ of 150$/);
  await expect(second).toHaveTitle(/^\d+ % · Studio/);
  await page.reload();
  await hydrated(page);
  await expect(page.locator('.underway-phase')).toHaveText(/^Step \d+ of 150$/);
  await page.getByRole('link', { name: 'Gallery', exact: true }).click();
  const toast = page.locator('.toast');
  await expect(toast).toContainText('Your image is ready.', { timeout: 90_000 });
  await expect(toast.locator('img')).toBeVisible();
  await toast.getByRole('link', { name: 'Look at it' }).click();
  await expect(page.getByRole('heading', { name: 'a red circle on a blue background' })).toBeVisible();
  await expect(second.getByRole('link', { name: "Open the image's page" })).toBeVisible({ timeout: 30_000 });
});

test('notifications are asked for on the account page only, and sent while nobody looks', async ({
  page,
  server,
  context,
}) => {
  await context.addInitScript(() => {
    const told: string[] = [];
    let permission = sessionStorage.getItem('permission') ?? 'default';
    class Fake {
      static get permission() {
        return permission;
      }
      static async requestPermission() {
        permission = 'granted';
        sessionStorage.setItem('permission', permission);
        return permission;
      }
      onclick: unknown = null;
      constructor(title: string, options: { body?: string }) {
        told.push(`${title}: ${options.body}`);
      }
      close() {}
    }
    Object.assign(window, { Notification: Fake, __told: told });
  });
  await setUp(page, server);
  await open(page, '/account');
  await page.getByRole('button', { name: 'Switch on', exact: true }).click();
  await expect(page.getByText('They are on.')).toBeVisible();
  await open(page, '/');
  await describe(page, 'a red circle on a blue background', { steps: 3 });
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
  });
  await generate(page);
  await expect
    .poll(() => page.evaluate(() => (window as unknown as { __told: string[] }).__told), { timeout: 60_000 })
    .toEqual(['Your image is ready: a red circle on a blue background']);
  await expect(page).toHaveTitle(/^Ready · /);
});
