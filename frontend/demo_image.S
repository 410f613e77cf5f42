/* frontend/demo_image.S -- the image of "droste demo" as bytes; DEMO_IMAGE is its file (see CMakeLists.txt). */
    .section .rodata
    .global demo_image, demo_image_end
    .balign 16
demo_image:
    .incbin DEMO_IMAGE
demo_image_end:
    .section .note.GNU-stack, "", @progbits
