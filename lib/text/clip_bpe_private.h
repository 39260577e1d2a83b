/* The merges that are part of the program; how they lie is told in clip_bpe.c. */
#ifndef SD_TEXT_CLIP_BPE_PRIVATE_H
#define SD_TEXT_CLIP_BPE_PRIVATE_H

enum { SD_CLIP_MERGES = 48894, SD_CLIP_FIRST_MERGE = 512 };

extern const unsigned char sd_clip_bpe_merges[SD_CLIP_MERGES][4] __attribute__((visibility("hidden")));

#endif
