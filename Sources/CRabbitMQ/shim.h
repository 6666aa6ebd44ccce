#ifndef SEEDREAM_CRABBITMQ_SHIM_H
#define SEEDREAM_CRABBITMQ_SHIM_H

/* Debian 12 has librabbitmq 0.11 with flat headers; 0.12 and later moved them. */
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

/* `amqp_login_with_properties` is variadic, which Swift cannot call. It is needed because plain `amqp_login`
 * advertises no client capability: a deleted queue or a blocked broker would then be silence. */
static inline amqp_rpc_reply_t seedream_login_plain(amqp_connection_state_t state, const char *vhost, int channel_max,
                                                    int frame_max, int heartbeat, const amqp_table_t *properties,
                                                    const char *user, const char *password) {
  return amqp_login_with_properties(state, vhost, channel_max, frame_max, heartbeat, properties,
                                    AMQP_SASL_METHOD_PLAIN, user, password);
}

/* The same, with the identity taken from the client certificate (SASL EXTERNAL). RabbitMQ ignores the identity in the
 * response; an empty one librabbitmq 0.11 takes for a failed allocation. */
static inline amqp_rpc_reply_t seedream_login_external(amqp_connection_state_t state, const char *vhost,
                                                       int channel_max, int frame_max, int heartbeat,
                                                       const amqp_table_t *properties) {
  return amqp_login_with_properties(state, vhost, channel_max, frame_max, heartbeat, properties,
                                    AMQP_SASL_METHOD_EXTERNAL, "from the certificate");
}

#endif
