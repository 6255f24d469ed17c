// The battery of a UPS (UPS-MIB, RFC 1628, upsBattery), as a parser in C.
#include <stdlib.h>
#include <string.h>
#include "parser_plugin.h"

typedef sotp_plugin_metrics_metric_desc_t desc_t;
typedef parser_plugin_tuple2_u32_f64_t value_t;

// Below 1.3.6.1.2.1.33.1.2: the object, and what its value is multiplied with.
static const struct {
    const char *name, *unit, *help;
    uint32_t object;
    double factor;
} METRICS[] = {
    {"ups_battery_state", "", "State of the battery", 1, 1},
    {"ups_battery_remaining_seconds", "seconds", "Time that the battery lasts under the load of now", 3, 60},
    {"ups_battery_charge_ratio", "ratio", "Charge of the battery", 4, 0.01},
    {"ups_battery_temperature_celsius", "celsius", "Temperature at the battery", 7, 1},
};
#define COUNT (sizeof METRICS / sizeof METRICS[0])

static const char *const STATES[] = {"unknown", "normal", "low", "depleted"};

static const uint32_t BATTERY[] = {1, 3, 6, 1, 2, 1, 33, 1, 2};
#define DEPTH (sizeof BATTERY / sizeof BATTERY[0])

// A block of zeroes. Without memory there is nothing left to do: the host says so.
static void *zeroed(size_t size) {
    void *block = malloc(size);
    if (block == NULL) abort();
    return memset(block, 0, size);
}

void exports_sotp_plugin_parser_describe(exports_sotp_plugin_parser_descriptor_t *ret) {
    memset(ret, 0, sizeof *ret);
    desc_t *metrics = zeroed(COUNT * sizeof *metrics);
    for (size_t i = 0; i < COUNT; i++) {
        parser_plugin_string_dup(&metrics[i].name, METRICS[i].name);
        parser_plugin_string_dup(&metrics[i].unit, METRICS[i].unit);
        parser_plugin_string_dup(&metrics[i].help, METRICS[i].help);
        metrics[i].kind = SOTP_PLUGIN_METRICS_METRIC_KIND_GAUGE;
    }
    metrics[0].kind = SOTP_PLUGIN_METRICS_METRIC_KIND_STATE;
    metrics[0].states.len = sizeof STATES / sizeof STATES[0];
    metrics[0].states.ptr = zeroed(metrics[0].states.len * sizeof *metrics[0].states.ptr);
    for (size_t i = 0; i < metrics[0].states.len; i++) {
        metrics[0].states.ptr[i].f0 = (int64_t)i + 1;
        parser_plugin_string_dup(&metrics[0].states.ptr[i].f1, STATES[i]);
    }
    ret->metrics.ptr = metrics;
    ret->metrics.len = COUNT;
}

// The object of upsBattery that a varbind is an instance of; 0: of none.
static uint32_t object_of(const sotp_plugin_snmp_varbind_t *varbind) {
    const sotp_plugin_snmp_oid_t *name = &varbind->name;
    if (name->len != DEPTH + 2 || memcmp(name->ptr, BATTERY, sizeof BATTERY) != 0) return 0;
    return name->ptr[DEPTH];
}

static bool number_of(const sotp_plugin_snmp_value_t *value, double *number) {
    switch (value->tag) {
    case SOTP_PLUGIN_SNMP_VALUE_INTEGER: *number = value->val.integer; return true;
    case SOTP_PLUGIN_SNMP_VALUE_UNSIGNED32: *number = value->val.unsigned32; return true;
    default: return false;
    }
}

bool exports_sotp_plugin_parser_parse(exports_sotp_plugin_parser_input_t *input,
                                      exports_sotp_plugin_parser_output_t *ret,
                                      exports_sotp_plugin_parser_plugin_error_t *err) {
    if (input->payload.tag != EXPORTS_SOTP_PLUGIN_PARSER_PAYLOAD_SNMP) {
        err->tag = SOTP_PLUGIN_TYPES_PLUGIN_ERROR_NOT_MINE;
        parser_plugin_string_dup(&err->val.not_mine, "no list of varbinds");
        return false;
    }
    memset(ret, 0, sizeof *ret);
    sotp_plugin_metrics_row_t *row = zeroed(sizeof *row);
    row->values.ptr = zeroed(COUNT * sizeof(value_t));
    for (size_t i = 0; i < input->payload.val.snmp.len; i++) {
        const sotp_plugin_snmp_varbind_t *varbind = &input->payload.val.snmp.ptr[i];
        uint32_t object = object_of(varbind);
        double number;
        for (uint32_t m = 0; m < COUNT && row->values.len < COUNT; m++) {
            if (METRICS[m].object != object || !number_of(&varbind->value, &number)) continue;
            // a UPS without a sensor reports 0
            if (object == 7 && number == 0) continue;
            row->values.ptr[row->values.len++] = (value_t){m, number * METRICS[m].factor};
        }
    }
    if (row->values.len > 0) {
        ret->rows.ptr = row;
        ret->rows.len = 1;
    }
    return true;
}
