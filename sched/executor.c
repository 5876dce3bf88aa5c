#include "executor.h"

kiln_status kiln_executor_destroy(kiln_executor *executor, kiln_error *error) {
    return executor != NULL ? executor->table->destroy(executor, error) : KILN_OK;
}

const char *kiln_executor_name(const kiln_executor *executor) {
    return executor != NULL ? executor->table->name : "";
}

uint32_t kiln_executor_threads(const kiln_executor *executor) {
    return executor != NULL ? executor->threads : 1;
}

const char *kiln_executor_level(const kiln_executor *executor) {
    return executor != NULL ? executor->level : "";
}
