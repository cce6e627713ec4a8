// What `make scale` runs: measurements, not tests; they need a folder that takes a minute to make.
import { defineConfig } from '@playwright/test';
import usual from './playwright.config';

export default defineConfig({ ...usual, testDir: 'scale', timeout: 300_000, projects: usual.projects?.map((project) => ({ ...project, testMatch: undefined })) });
