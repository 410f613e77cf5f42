# Turns the binary file IN into the C header OUT.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n    " bytes "${bytes}")
file(WRITE ${OUT} "/* Made from bios/acpi/dsdt.asl. */\n#include <stdint.h>\n\nstatic const uint8_t dsdt_aml[] = {\n    ${bytes}\n};\n")
