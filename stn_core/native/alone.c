/* One image localized, warped and classified in one call: two sessions of ONNX Runtime and the sampler between them.

   From Python each of the three costs about as much to call as to run, for one image. ONNX Runtime's own functions are
   reached by its C interface, which it hands to libraries of custom operations: here there is none, but the interface is
   kept. It is a table of functions to which later versions only append, so those below have the same place in all. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "pixels.h"

int stn_warp(const void *images, int bytes, int64_t height, int64_t width, int64_t channels, const double *thetas,
             float min_w, const float *x, const float *y, void *out, int64_t out_height, int64_t out_width,
             int64_t first_row, int64_t last_row, float fill);

#define EXPORTED __attribute__((visibility("default")))
#define API_VERSION 8
#define FLOAT_TENSOR 1     /* ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT */
#define DEVICE_ALLOCATOR 0 /* OrtDeviceAllocator */
#define WARNINGS 3         /* ORT_LOGGING_LEVEL_ERROR */

typedef struct {
    const void *const *(*get_api)(uint32_t version);
    const char *(*version)(void);
} ApiBase;

/* Functions of the table by their places; each gives a status, NULL if all is well. */
enum {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    CREATE_SESSION_FROM_ARRAY = 8,
    RUN = 9,
    CLONE_SESSION_OPTIONS = 12,
    CREATE_TENSOR_WITH_DATA = 49,
    CREATE_CPU_MEMORY_INFO = 69,
    RELEASE_STATUS = 93,
    RELEASE_MEMORY_INFO = 94,
    RELEASE_SESSION = 95,
    RELEASE_VALUE = 96,
    RELEASE_SESSION_OPTIONS = 100
};

typedef void *(*CreateEnv)(int level, const char *id, void **env);
typedef void *(*CloneOptions)(const void *options, void **clone);
typedef void *(*CreateSession)(const void *env, const void *model, size_t bytes, const void *options, void **session);
typedef void *(*CreateMemoryInfo)(int allocator, int memory, void **info);
typedef void *(*CreateTensor)(const void *info, void *data, size_t bytes, const int64_t *shape, size_t sides, int type,
                              void **value);
typedef void *(*Run)(void *session, const void *options, const char *const *inputs, const void *const *given,
                     size_t count, const char *const *outputs, size_t out_count, void **made);
typedef const char *(*Message)(const void *status);
typedef void (*Release)(void *object);

static const void *const *api;
static void *env, *options;
static char problem[512];

static int failed(void *status) {
    if (!status)
        return 0;
    snprintf(problem, sizeof problem, "%s", ((Message)api[GET_ERROR_MESSAGE])(status));
    ((Release)api[RELEASE_STATUS])(status);
    return 1;
}

/* What ONNX Runtime calls where these options register this library: they are those of the next stn_session. */
EXPORTED void *RegisterCustomOps(const void *given, const ApiBase *base) {
    api = base->get_api(API_VERSION);
    if (api && options)
        ((Release)api[RELEASE_SESSION_OPTIONS])(options);
    options = NULL;
    return api ? ((CloneOptions)api[CLONE_SESSION_OPTIONS])(given, &options) : NULL;
}

/* Why the last of the calls below that gave NULL, or less than 0, did so. */
EXPORTED const char *stn_problem(void) { return problem; }

/* A session of the model in memory with the options registered last; NULL if there is none. */
EXPORTED void *stn_session(const void *model, size_t bytes) {
    void *session = NULL;
    snprintf(problem, sizeof problem, "no options were registered");
    if (!api || !options || (!env && failed(((CreateEnv)api[CREATE_ENV])(WARNINGS, "stn", &env))))
        return NULL;
    return failed(((CreateSession)api[CREATE_SESSION_FROM_ARRAY])(env, model, bytes, options, &session)) ? NULL : session;
}

/* A tensor of float32 that is the array at data, which must outlive it; NULL if there is none. */
EXPORTED void *stn_tensor(float *data, size_t bytes, const int64_t *shape, size_t sides) {
    void *info = NULL, *value = NULL;
    if (failed(((CreateMemoryInfo)api[CREATE_CPU_MEMORY_INFO])(DEVICE_ALLOCATOR, 0, &info)))
        return NULL;
    const int none = failed(((CreateTensor)api[CREATE_TENSOR_WITH_DATA])(info, data, bytes, shape, sides, FLOAT_TENSOR, &value));
    ((Release)api[RELEASE_MEMORY_INFO])(info);
    return none ? NULL : value;
}

EXPORTED void stn_release_session(void *session) { ((Release)api[RELEASE_SESSION])(session); }

EXPORTED void stn_release_tensor(void *tensor) { ((Release)api[RELEASE_VALUE])(tensor); }

/* A network that reads one array and writes another one. */
typedef struct {
    void *session;
    const char *input, *output;
    void *given, *made;             /* tensors */
    float *given_data, *made_data; /* their arrays */
} Network;

typedef struct {
    Network localization, classifier;
    Shape image, rectified;
    int64_t numbers, classes;
    float min_w; /* 0: theta is affine, else it is a homography */
    float fill;  /* of float images */
    int gives_logits;
} Alone;

static int run(const Network *network) {
    const void *given = network->given;
    void *made = network->made;
    return failed(((Run)api[RUN])(network->session, NULL, &network->input, &given, 1, &network->output, 1, &made)) ? -1 : 0;
}

INLINE void as_floats(const void *image, int bytes, int64_t count, float *to) {
    if (!bytes) {
        memcpy(to, image, count * sizeof *to);
        return;
    }
    for (int64_t k = 0; k < count; k++)
        to[k] = (float)((const uint8_t *)image)[k] * (1.0f / 255);
}

static void softmax(float *values, int64_t count) {
    float most = values[0], sum = 0;
    for (int64_t k = 1; k < count; k++)
        most = values[k] > most ? values[k] : most;
    for (int64_t k = 0; k < count; k++)
        sum += values[k] = expf(values[k] - most);
    for (int64_t k = 0; k < count; k++)
        values[k] /= sum;
}

/* The image, uint8 (bytes = 1) or float, rectified into `rectified` of the same datatype; theta and the probabilities are
   in the arrays of the networks. Gives 0, or less if it failed. */
EXPORTED int stn_alone(const Alone *a, const void *image, int bytes, void *rectified) {
    const Shape in = a->image, out = a->rectified;
    const Network *first = &a->localization, *second = &a->classifier;
    double theta[9];
    as_floats(image, bytes, in.height * in.width * in.channels, first->given_data);
    if (run(first))
        return -1;
    for (int64_t k = 0; k < a->numbers; k++)
        theta[k] = first->made_data[k];
    if (stn_warp(image, bytes, in.height, in.width, in.channels, theta, a->min_w, NULL, NULL, rectified, out.height,
                 out.width, 0, out.height, bytes ? a->fill * 255 : a->fill)) {
        snprintf(problem, sizeof problem, "no memory to warp an image in");
        return -1;
    }
    as_floats(rectified, bytes, out.height * out.width * out.channels, second->given_data);
    if (run(second))
        return -1;
    if (a->gives_logits)
        softmax(second->made_data, a->classes);
    return 0;
}
