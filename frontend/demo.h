/* frontend/demo.h -- "droste demo": the teaching hypervisor that is built into the program. */
#ifndef FRONTEND_DEMO_H
#define FRONTEND_DEMO_H

/* Runs the built-in image; argv[0] is "demo". Returns the program's exit status, 0 when every exit was taken.
 */
int demo_main(int argc, char **argv);

#endif
