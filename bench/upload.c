/* upload: raw PUTs, as fast as libcurl goes: what an upload through skyvol is measured beside.
 *
 *      upload CONNECTIONS SOURCE < LINES        each line: LENGTH OFFSET URL, in order; the URL carries its signature
 *
 * SOURCE is mapped and touched before the clock starts. No checksum is computed, nothing is retried: a status over 299 ends it.
 * One line of JSON: start and end are CLOCK_MONOTONIC, etags as the server gave them, in the order of the lines.
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256
#define ETAG_MAX        64

struct part {
    char *url;
    size_t offset, length;
    char etag[ETAG_MAX]; /* with its quotes */
};

struct connection {
    CURL *easy;
    struct part *part;
    size_t sent;
};

static const char *source;
static struct part *parts;
static size_t part_count, next_part;
static CURLM *multi;
static struct curl_slist *headers;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "upload: %s: %s\n", what, why);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static size_t give_bytes(char *into, size_t size, size_t count, void *context)
{
    struct connection *connection = context;
    const struct part *part = connection->part;
    size_t length = part->length - connection->sent;
    if (length > size * count)
        length = size * count;
    memcpy(into, source + part->offset + connection->sent, length);
    connection->sent += length;
    return length;
}

/* A connection that had gone while it was idle: the body begins again. */
static int seek_bytes(void *context, curl_off_t offset, int origin)
{
    if (origin != SEEK_SET)
        return CURL_SEEKFUNC_FAIL;
    ((struct connection *)context)->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t hear_header(char *line, size_t size, size_t count, void *context)
{
    struct part *part = ((struct connection *)context)->part;
    size_t length = size * count;
    char text[ETAG_MAX + 16];
    if (length < sizeof text && strncasecmp(line, "etag:", 5) == 0) {
        memcpy(text, line, length);
        text[length] = '\0';
        sscanf(text + 5, " %63s", part->etag);
    }
    return length;
}

static size_t drop_body(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes, (void)context;
    return size * count;
}

static void send_next(struct connection *connection)
{
    if (next_part == part_count)
        return;
    connection->part = &parts[next_part++];
    connection->sent = 0;
    curl_easy_setopt(connection->easy, CURLOPT_URL, connection->part->url);
    curl_easy_setopt(connection->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)connection->part->length);
    curl_multi_add_handle(multi, connection->easy);
}

static void prepare(struct connection *connection)
{
    CURL *easy = connection->easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_bytes);
    curl_easy_setopt(easy, CURLOPT_READDATA, connection);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, seek_bytes);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, connection);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, hear_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, connection);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_body);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, connection);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

static void hear_answers(void)
{
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(multi, &left));) {
        struct connection *connection;
        CURL *easy = message->easy_handle;
        CURLcode code = message->data.result;
        long status = 0;
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &connection);
        if (code != CURLE_OK || status > 299) {
            fprintf(stderr, "upload: %s: status %ld\n", connection->part->url, status);
            fail("PUT", curl_easy_strerror(code));
        }
        curl_multi_remove_handle(multi, easy);
        send_next(connection);
    }
}

static void run(struct connection *connections, size_t count)
{
    int running = 1;
    for (size_t i = 0; i < count; i++)
        send_next(&connections[i]);
    while (running > 0) {
        curl_multi_perform(multi, &running);
        hear_answers();
        curl_multi_perform(multi, &running); /* what was just begun counts as running */
        if (running > 0)
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
}

static void read_parts(void)
{
    char line[4096];
    size_t room = 0;
    while (fgets(line, sizeof line, stdin)) {
        if (part_count == room) {
            room = room ? room * 2 : 256;
            parts = realloc(parts, room * sizeof parts[0]);
            if (!parts)
                fail("parts", "out of memory");
        }
        struct part *part = &parts[part_count++];
        int at = 0;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%zu %zu %n", &part->length, &part->offset, &at) != 2 || at == 0)
            fail("not LENGTH OFFSET URL", line);
        part->url = strdup(line + at);
        part->etag[0] = '\0';
    }
}

static void map_source(const char *path)
{
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &facts) < 0)
        fail(path, strerror(errno));
    source = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (source == MAP_FAILED)
        fail(path, strerror(errno));
    close(fd);
    for (size_t i = 0; i < part_count; i++)
        if (parts[i].offset + parts[i].length > (size_t)facts.st_size)
            fail(path, "is shorter than what is to be sent");
}

static void print_report(double start, double end)
{
    printf("{\"start\": %.6f, \"end\": %.6f, \"etags\": [", start, end);
    for (size_t i = 0; i < part_count; i++) {
        char bare[ETAG_MAX];
        size_t length = strcspn(parts[i].etag + 1, "\"");
        snprintf(bare, sizeof bare, "%.*s", (int)length, parts[i].etag + 1);
        printf("%s\"%s\"", i ? ", " : "", bare);
    }
    printf("]}\n");
}

int main(int count, char **words)
{
    static struct connection connections[CONNECTIONS_MAX];
    size_t wanted = count == 3 ? strtoull(words[1], NULL, 10) : 0;
    if (wanted == 0 || wanted > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: upload CONNECTIONS SOURCE < LINES\n");
        return 2;
    }
    read_parts();
    map_source(words[2]);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)wanted);
    headers = curl_slist_append(NULL, "Expect:"); /* not asked before each part */
    for (size_t i = 0; i < wanted; i++)
        prepare(&connections[i]);
    double start = now();
    run(connections, wanted);
    print_report(start, now());
    return 0;
}
