/*
 * lib/covers.h -- which row of cpu/vmx/controls.def or cpu/vmx/exit_reasons.def a check exercises.
 *
 *     COVERS(PROC_HLT_EXITING);   a control: its word and its name
 *     COVERS(EXIT_HLT);           an exit reason
 *
 * A mark stands with the check, or under the table that holds it; one for a row that does not exist does not
 * compile. tests/vmx/coverage fails for a row without a mark. It makes no code.
 */
#pragma once

enum {
#define CONTROL(word, bit, name, title, feature)        COVER_##word##_##name,
#define EXIT_REASON(number, name, title, qualification) COVER_EXIT_##name,
#include "../../../cpu/vmx/controls.def"
#include "../../../cpu/vmx/exit_reasons.def"
#undef CONTROL
#undef EXIT_REASON
};
#define COVERS(row) _Static_assert(COVER_##row >= 0, #row)
