/* Chooses the operators' table of an instruction set. */
#include "ops.h"

#include "isa_table.h"

RZ_TABLE_BY_NAME(rz_ops)
