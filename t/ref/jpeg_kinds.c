/* Writes a raw picture as a JPEG of a kind that Pillow does not write, for t/ref/image.py:
 *
 *     jpeg_kinds KIND WIDTH HEIGHT < samples > file
 *
 * RGB samples, or CMYK for ycck and cmyk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* behind stdio.h, which it needs */
#include <jpeglib.h>

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const char *kind = argv[1];
    int width = atoi(argv[2]), height = atoi(argv[3]), four = !strcmp(kind, "ycck") || !strcmp(kind, "cmyk");
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr errors;
    j.err = jpeg_std_error(&errors);
    jpeg_create_compress(&j);
    jpeg_stdio_dest(&j, stdout);
    j.image_width = (JDIMENSION)width;
    j.image_height = (JDIMENSION)height;
    j.input_components = four ? 4 : 3;
    j.in_color_space = four ? JCS_CMYK : JCS_RGB;
    jpeg_set_defaults(&j);
    jpeg_set_quality(&j, 90, TRUE);
    if (!strcmp(kind, "ycck"))
        jpeg_set_colorspace(&j, JCS_YCCK);
    if (!strcmp(kind, "cmyk")) /* as Photoshop does not: no marker */
        j.write_Adobe_marker = FALSE;
    if (!strcmp(kind, "rgb"))
        jpeg_set_colorspace(&j, JCS_RGB);
    if (!strcmp(kind, "411")) {
        j.comp_info[0].h_samp_factor = 4;
        j.comp_info[0].v_samp_factor = 1;
    }
    if (!strcmp(kind, "440")) {
        j.comp_info[0].h_samp_factor = 1;
        j.comp_info[0].v_samp_factor = 2;
    }
    if (!strcmp(kind, "422"))
        j.comp_info[0].v_samp_factor = 1;
    if (!strncmp(kind, "arithmetic", 10))
        j.arith_code = TRUE;
    if (!strcmp(kind, "arithmetic-progressive"))
        jpeg_simple_progression(&j);
    if (!strcmp(kind, "restart"))
        j.restart_interval = 1;
    jpeg_start_compress(&j, TRUE);
    size_t row = (size_t)width * (four ? 4 : 3);
    JSAMPROW line = malloc(row);
    while (j.next_scanline < j.image_height) {
        if (!line || fread(line, row, 1, stdin) != 1)
            return 1;
        jpeg_write_scanlines(&j, &line, 1);
    }
    jpeg_finish_compress(&j);
    free(line);
    return 0;
}
