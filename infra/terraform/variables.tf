variable "region" {
  description = "AWS region of everything here, e.g. eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must look like eu-central-1."
  }
}

variable "name" {
  description = "Prefix of the names of everything here."
  type        = string
  default     = "reelflow"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "The name must be 2 to 21 lower-case letters, digits and hyphens, and start with a letter."
  }
}

variable "tags" {
  description = "Tags of everything here, beside project=reelflow."
  type        = map(string)
  default     = {}
}

variable "store_bucket" {
  description = "Name of the bucket to make for the store. Bucket names are unique in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.store_bucket))
    error_message = "The bucket's name must be 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "store_prefix" {
  description = "Folder of the store in its bucket: REELFLOW_STORE is s3://{store_bucket}/{store_prefix}."
  type        = string
  default     = "store"

  validation {
    condition     = can(regex("^[A-Za-z0-9._/-]+$", var.store_prefix)) && !startswith(var.store_prefix, "/") && !endswith(var.store_prefix, "/")
    error_message = "The prefix must not be empty, nor start or end with a slash; letters, digits and . _ / - are allowed."
  }
}

variable "source_bucket" {
  description = "Name of the bucket that holds the media. It exists already and is only read."
  type        = string
}

variable "source_prefix" {
  description = "Prefix of the media in that bucket, with its slash at the end; empty for the whole bucket."
  type        = string
  default     = ""

  validation {
    condition     = var.source_prefix == "" || endswith(var.source_prefix, "/")
    error_message = "End the prefix with a slash: `uploads` would also allow `uploads-private/`."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that the bucket encrypts with by default. Null: S3's own keys, SSE-S3. Runs need no setting for it."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "Give the ARN of the key, arn:aws:kms:..., not its id or alias."
  }
}

variable "abort_uploads_after_days" {
  description = "Days after which multipart uploads that nobody finished are removed; a killed worker leaves such."
  type        = number
  default     = 3

  validation {
    condition     = var.abort_uploads_after_days >= 1 && var.abort_uploads_after_days <= 30
    error_message = "Between 1 and 30 days."
  }
}

variable "keep_old_versions_days" {
  description = "Days that overwritten and deleted objects can still be had back."
  type        = number
  default     = 14

  validation {
    condition     = var.keep_old_versions_days >= 1
    error_message = "At least 1 day."
  }
}

variable "image" {
  description = "Image of infra/Dockerfile in an ECR repository of this account, e.g. 123456789012.dkr.ecr.eu-central-1.amazonaws.com/reelflow:cpu."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?/[a-z0-9._/-]+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$", var.image))
    error_message = "The image must lie in ECR and carry a tag or digest."
  }
}

variable "prefect_api_url" {
  description = "API of the Prefect server as the worker and the flow runs reach it, e.g. https://prefect.example.org/api."
  type        = string

  validation {
    condition     = can(regex("^https?://.+/api(/|$)", var.prefect_api_url))
    error_message = "The URL must be http(s)://.../api."
  }
}

variable "prefect_secret_arn" {
  description = "ARN of the Secrets Manager secret with the server's auth string or API key. Null: the server asks for none."
  type        = string
  default     = null
}

variable "prefect_secret_variable" {
  description = "What that secret is: PREFECT_API_AUTH_STRING (a server of your own) or PREFECT_API_KEY (Prefect Cloud)."
  type        = string
  default     = "PREFECT_API_AUTH_STRING"

  validation {
    condition     = contains(["PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"], var.prefect_secret_variable)
    error_message = "Either PREFECT_API_AUTH_STRING or PREFECT_API_KEY."
  }
}

variable "vpc_id" {
  description = "VPC of the worker and the flow runs; the Prefect server and the Dask scheduler must be reachable from it."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the worker, two or more, private ones with a way out (NAT or VPC endpoints)."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 1
    error_message = "Name at least one subnet."
  }
}

variable "flow_log_group" {
  description = "CloudWatch log group of the flow runs. Prefect's ECS worker writes to `prefect` unless its pool says otherwise."
  type        = string
  default     = "prefect"
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365], var.log_days)
    error_message = "One of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, which are what CloudWatch has."
  }
}
