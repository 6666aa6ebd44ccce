#ifndef SEEDREAM_CYAML_SHIM_H
#define SEEDREAM_CYAML_SHIM_H

#include <yaml.h>

#endif
