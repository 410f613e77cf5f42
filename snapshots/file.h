/*
 * snapshots/file.h -- the snapshot file: a machine's configuration, the state of its items, its RAM.
 *
 * All numbers are little-endian. Hashes are state_hash_bytes(). Records follow each other without gaps:
 * header, one record a section, one record a RAM chunk, trailer.
 *
 * Header
 *   OFFSET  SIZE  DESCRIPTION
 *   0       8     magic: 89H "DROSTE" 0AH
 *   8       4     format version, 1
 *   12      4     number of sections
 *   16      4     n, length of the machine configuration
 *   20      4     reserved, 0
 *   24      8     RAM size in bytes, a multiple of 4096
 *   32      8     number of RAM chunks
 *   40      8     hash of bytes 0 to 39 and of the configuration, chained
 *   48      n     machine configuration: one line of text, options as on the command line
 *
 * Section: the state of one item (snapshots/state.h), each item of the machine once
 *   0       4     magic: "SECT"
 *   4       4     version of the description
 *   8       32    name of the item, filled up with 0
 *   40      32    name of the description, filled up with 0
 *   72      8     r, size of the state in bytes
 *   80      8     n, size of the zstd frame that holds it
 *   88      8     hash of the state
 *   96      8     hash of bytes 0 to 95
 *   104     n     zstd frame
 *
 * RAM chunk: 64 pages of 4096 bytes; pages of zeros are left out, and so are chunks of nothing else
 *   0       4     magic: "RAMC"
 *   4       4     reserved, 0
 *   8       8     chunk number (guest-physical page / 64 in RAM's own order), ascending
 *   16      8     mask of the pages that follow, bit 0 is the first page
 *   24      8     n, size of the zstd frame that holds them
 *   32      8     hash of the pages
 *   40      8     hash of bytes 0 to 39
 *   48      n     zstd frame
 *
 * Trailer
 *   0       4     magic: "TAIL"
 *   4       4     reserved, 0
 *   8       8     the hashes of header and of all records, chained in order
 */
#ifndef SNAPSHOTS_FILE_H
#define SNAPSHOTS_FILE_H

#include <stdio.h>
#include "base/error.h"
#include "snapshots/state.h"

#define SNAPSHOT_CONFIG_MAX  65536        /* bytes, the terminating 0 included */
#define SNAPSHOT_SECTION_MAX (256u << 20) /* bytes of one item's state */
#define SNAPSHOT_CHUNK_PAGES 64

/* Writes path + ".partial", then renames it, so an existing snapshot is never left half overwritten. */
bool snapshot_save(const char *path, const struct state_list *l, const char *config, const uint8_t *ram,
                   uint64_t ram_size, struct error *e);
/*
 * Reads the configuration and RAM size, from which the caller creates the machine that the rest is loaded
 * into. `config` has room for SNAPSHOT_CONFIG_MAX bytes.
 */
bool snapshot_read_config(const char *path, char *config, uint64_t *ram_size, struct error *e);
/*
 * Loads every item and RAM. `config` must equal the file's (NULL: not compared). Pages that the file leaves
 * out become zero; pages that are zero already are not touched. The caller calls clock_rebuild() afterwards
 * and tells mmu/ that all of RAM changed. After an error the machine is loaded in part and must be thrown
 * away.
 */
bool snapshot_load(const char *path, const struct state_list *l, const char *config, uint8_t *ram,
                   uint64_t ram_size, struct error *e);

/* The same on open streams; `name` is for messages. */
bool snapshot_write(FILE *f, const char *name, const struct state_list *l, const char *config,
                    const uint8_t *ram, uint64_t ram_size, struct error *e);
bool snapshot_read(FILE *f, const char *name, const struct state_list *l, const char *config, uint8_t *ram,
                   uint64_t ram_size, struct error *e);

#endif
