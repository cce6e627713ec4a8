/* Stands for libnvidia-ml.so.1 in tests; what it does is said by $STUB_NVML: ok, refuses, aborts,
   hangs or lost. The signatures are nvml.h's. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;

static unsigned long long asked;

static int does(const char *what) {
    const char *said = getenv("STUB_NVML");
    return said && strcmp(said, what) == 0;
}

int nvmlInit_v2(void) {
    if (does("aborts")) abort();
    if (does("hangs")) for (;;) pause();
    return does("refuses") ? 18 : 0;
}

const char *nvmlErrorString(int status) {
    return status == 18 ? "Driver/library version mismatch" : status == 15 ? "GPU is lost" : "Unknown";
}

int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = (void *)(unsigned long)(index + 1);
    return 0;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    strncpy(name, device == (void *)1 ? "NVIDIA GeForce RTX 5090" : "NVIDIA H100", length);
    return 0;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    strncpy(uuid, device == (void *)1 ? "GPU-5090" : "GPU-h100", length);
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    if (does("lost")) return 15;
    memory->total = 32ull << 30;
    memory->used = ++asked << 20;
    memory->free = memory->total - memory->used;
    return 0;
}

int nvmlDeviceGetUtilizationRates(void *device, utilization_t *load) {
    if (does("lost")) return 15;
    load->gpu = 37;
    load->memory = 5;
    return 0;
}

int nvmlDeviceGetTemperature(void *device, unsigned int sensor, unsigned int *degrees) {
    if (does("lost") || sensor != 0) return 2;
    *degrees = 61;
    return 0;
}

/* Not supported on the second. */
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    if (does("lost") || device != (void *)1) return 3;
    *milliwatts = 431500;
    return 0;
}
