/* Numbers as Python writes them. */
#ifndef SD_BASE_PYFLOAT_H
#define SD_BASE_PYFLOAT_H

/* Python's repr of a float: the shortest digits that read back the same, 1e-05 style exponents. */
void sd_python_float(double v, char text[32]);

#endif
